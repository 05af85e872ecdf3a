"""Figures for Prometheus: requests as this process saw them, the rest from the database.

Workers are other processes, on other machines perhaps: what they measure they add to rows of the
database (``Measure``), which every API process shows alike.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector
from sqlalchemy import case, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.database.engine import Database
from app.database.tables import Heartbeat, Job, Measure, OutboxMessage, now
from app.jobs.kinds import KINDS

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)


class HttpMetrics:
    """Requests of one API process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "headwater_http_requests", "Requests", ["method", "route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "headwater_http_request_seconds",
            "Time from a request to the end of its answer",
            ["method", "route"],
            buckets=BUCKETS,
            registry=registry,
        )

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        self.requests.labels(method, route, str(status)).inc()
        self.seconds.labels(method, route).observe(seconds)


class DatabaseCollector(Collector):
    """What the database says of jobs, messages and workers at the moment of the scrape."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def describe(self) -> list[Metric]:
        """Nothing beforehand: asking would open the database before it is needed."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All figures, or only that the database is away."""
        up = GaugeMetricFamily("headwater_database_up", "1 where the database answers")
        try:
            with self.database.read() as session:
                metrics = [*_jobs(session), *_outbox(session), _alive(session), *_measured(session)]
        except SQLAlchemyError:
            metrics = []
        up.add_metric([], float(bool(metrics)))
        yield from (up, *metrics)


def _jobs(session: Session) -> Iterator[Metric]:
    jobs = GaugeMetricFamily(
        "headwater_jobs", "Jobs that have not ended", labels=["kind", "status"]
    )
    counted = (
        select(Job.kind, Job.status, func.count())
        .where(Job.status.in_(("queued", "running")))  # those that ended may be millions
        .group_by(Job.kind, Job.status)
    )
    for kind, status, count in session.execute(counted):
        jobs.add_metric([kind, status], count)
    yield jobs
    age = GaugeMetricFamily(
        "headwater_queue_age_seconds", "Age of the oldest job that waits", labels=["queue"]
    )
    for queue in KINDS:
        oldest = session.scalar(
            select(func.min(Job.due_at)).where(Job.status == "queued", Job.queue == queue)
        )
        waited = (now() - oldest).total_seconds() if oldest else 0.0
        age.add_metric([queue], max(0.0, waited))
    yield age


def _outbox(session: Session) -> Iterator[Metric]:
    size, oldest, failures = session.execute(
        select(
            func.count(),
            func.min(OutboxMessage.due_at),
            func.sum(case((OutboxMessage.failures > 0, 1), else_=0)),
        )
    ).one()
    yield GaugeMetricFamily("headwater_outbox_messages", "Messages to be sent", size)
    yield GaugeMetricFamily("headwater_outbox_failing", "… that failed before", failures or 0)
    lag = max(0.0, (now() - oldest).total_seconds()) if oldest else 0.0
    yield GaugeMetricFamily("headwater_outbox_lag_seconds", "How overdue the oldest one is", lag)


def _alive(session: Session) -> Metric:
    alive = GaugeMetricFamily(
        "headwater_heartbeat_age_seconds", "Since a program was last heard of", labels=["program"]
    )
    heard = select(Heartbeat.program, func.max(Heartbeat.at)).group_by(Heartbeat.program)
    for program, at in session.execute(heard):
        alive.add_metric([program], (now() - at).total_seconds())
    return alive


def _measured(session: Session) -> Iterator[Metric]:
    stages = SummaryMetricFamily(
        "headwater_stage_seconds", "Time in a stage of a kind of job", labels=["kind", "stage"]
    )
    events = CounterMetricFamily("headwater_events", "What happened in workers", labels=["event"])
    for measure in session.scalars(select(Measure).order_by(Measure.name, Measure.label)):
        if measure.name == "stage":
            kind, _, stage = measure.label.partition("/")
            stages.add_metric([kind, stage], measure.count, measure.total)
        else:
            events.add_metric([measure.label], measure.count)
    yield from (stages, events)
