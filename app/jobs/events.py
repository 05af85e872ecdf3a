"""What became of an attribution, step by step: rows that a client can replay."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import insert, literal, select
from sqlalchemy.orm import Session

from app.database.tables import Job, JobEvent, now
from app.jobs.kinds import ATTRIBUTION
from app.webhooks.notices import tell_of_attribution


def record(session: Session, job_id: str) -> None:
    """Keep the job's present state as an event, in the transaction that changed it.

    An attribution's end is also told to who wants to know.

    Only what has an event stream has events: a build's thousand shards report together.
    """
    state = select(Job.id, Job.status, Job.attempt, Job.stage, Job.fraction, literal(now())).where(
        Job.id == job_id, Job.kind == ATTRIBUTION
    )
    session.flush()
    columns = ["job_id", "status", "attempt", "stage", "fraction", "at"]
    recorded = insert(JobEvent).from_select(columns, state).returning(JobEvent.status)
    status = session.execute(recorded).scalar_one_or_none()
    if status is not None:
        tell_of_attribution(session, job_id, status)


def after(session: Session, job_id: str, last_seen: int) -> Sequence[JobEvent]:
    """The events of a job that came after the one with this id."""
    query = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.id > last_seen)
    return session.scalars(query.order_by(JobEvent.id)).all()
