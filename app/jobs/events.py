"""What became of an attribution, step by step: rows that a client can replay."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import insert, literal, select
from sqlalchemy.orm import Session

from app.database.tables import Job, JobEvent, now
from app.jobs.kinds import ATTRIBUTION


def record(session: Session, job_id: str) -> None:
    """Keep the job's present state as an event, in the transaction that changed it.

    Only what has an event stream has events: a build's thousand shards report together.
    """
    state = select(Job.id, Job.status, Job.attempt, Job.stage, Job.fraction, literal(now())).where(
        Job.id == job_id, Job.kind == ATTRIBUTION
    )
    session.flush()
    columns = ["job_id", "status", "attempt", "stage", "fraction", "at"]
    session.execute(insert(JobEvent).from_select(columns, state))


def after(session: Session, job_id: str, last_seen: int) -> Sequence[JobEvent]:
    """The events of a job that came after the one with this id."""
    query = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.id > last_seen)
    return session.scalars(query.order_by(JobEvent.id)).all()
