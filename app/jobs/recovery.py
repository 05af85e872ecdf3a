"""What the reaper does: jobs whose worker died, whose message was lost, or that are overdue."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from sqlalchemy import exists, or_, select
from sqlalchemy.orm import Session

from app.config import Settings
from app.database.tables import Job, OutboxMessage, now
from app.jobs.claims import requeue_or_fail
from app.jobs.events import record
from app.jobs.kinds import Queue
from app.jobs.measures import LEASES_EXPIRED, count
from app.jobs.submission import announce
from app.problems import problem_body


def recover_expired(session: Session, settings: Settings, limit: int = 100) -> int:
    """Queue jobs again whose lease ran out, or fail them; return how many there were."""
    query = (
        select(Job)
        .where(Job.status == "running", Job.lease_until < now())
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    jobs = session.scalars(query).all()
    for job in jobs:
        requeue_or_fail(session, settings, job, _worker_died(job))
    count(session, LEASES_EXPIRED, len(jobs))
    return len(jobs)


def expire_overdue(session: Session, limit: int = 100) -> int:
    """End jobs that were wanted earlier; who works on one is fenced, and stops."""
    query = (
        select(Job)
        .where(Job.status.in_(("queued", "running")), Job.expires_at < now())
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    jobs = session.scalars(query).all()
    for job in jobs:
        job.status = "expired"
        job.finished_at = now()
        job.lease_until = None
        record(session, job.id)
    return len(jobs)


def announce_again(
    session: Session, settings: Settings, empty: Collection[Queue] = (), limit: int = 100
) -> int:
    """Send another message for jobs that wait too long; a needless one does no harm.

    In a queue that is empty too long is soon: the broker has lost what it held, or has given it to
    workers that died.
    """
    patience = timedelta(seconds=settings.resend_seconds)
    query = (
        select(Job)
        .where(
            Job.status == "queued",
            or_(Job.resend_at < now(), Job.queue.in_(empty) & (Job.due_at < now() - patience)),
            ~exists().where(OutboxMessage.job_id == Job.id),
        )
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    jobs = session.scalars(query).all()
    for job in jobs:
        announce(session, settings, job)
    return len(jobs)


def _worker_died(job: Job) -> dict[str, object]:
    return problem_body(
        500,
        "worker-died",
        "The worker died",
        f"Each of {job.attempt} attempts ended with the worker killed or out of reach.",
    )
