"""Canceling a job: its holder notices at its next report of progress, and is fenced."""

from __future__ import annotations

from sqlalchemy import CursorResult, update
from sqlalchemy.orm import Session

from app.database.tables import Job, now
from app.jobs.events import record


def cancel(session: Session, job_id: str) -> bool:
    """Cancel a job that has not ended; False when it has."""
    statement = (
        update(Job)
        .where(Job.id == job_id, Job.status.in_(("queued", "running")))
        .values(status="canceled", finished_at=now(), lease_until=None)
    )
    result = session.execute(statement)
    assert isinstance(result, CursorResult)
    if result.rowcount == 1:
        record(session, job_id)
        return True
    return False
