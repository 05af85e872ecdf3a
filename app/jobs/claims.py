"""Claiming a job and writing to it.  Every write is fenced: ``WHERE attempt = :mine``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import CursorResult, Update, select, update
from sqlalchemy.orm import Session

from app.config import Settings
from app.database.tables import IndexVersion, Job, now
from app.jobs.events import record
from app.jobs.kinds import WEBHOOK_DELIVERY
from app.jobs.pauses import pause_after
from app.jobs.submission import announce
from app.webhooks import attempts
from app.webhooks.notices import tell_of_index


class LeaseLostError(Exception):
    """The job was canceled, or is somebody else's by now: stop, and write nothing."""


@dataclass(frozen=True)
class Claim:
    """The right to work on a job, good while the lease is kept."""

    job_id: str
    attempt: int


def claim(session: Session, settings: Settings, job_id: str) -> Claim | None:
    """Start the next attempt, unless the job is no longer queued (a duplicate message)."""
    statement = (
        update(Job)
        .where(Job.id == job_id, Job.status == "queued")
        .values(
            status="running",
            attempt=Job.attempt + 1,
            lease_until=now() + timedelta(seconds=settings.lease_seconds),
            started_at=now(),
            stage=None,
            fraction=0.0,
        )
        .returning(Job.attempt)
    )
    attempt = session.execute(statement).scalar_one_or_none()
    if attempt is None:
        return None
    record(session, job_id)
    return Claim(job_id, attempt)


def extend_lease(session: Session, settings: Settings, held: Claim) -> None:
    """Hold the job for another lease."""
    until = now() + timedelta(seconds=settings.lease_seconds)
    _write(session, _mine(held).values(lease_until=until))


def report_progress(session: Session, held: Claim, stage: str, fraction: float) -> None:
    """Say how far the work is."""
    _write(session, _mine(held).values(stage=stage, fraction=fraction))
    record(session, held.job_id)


def attach_image(session: Session, held: Claim, digest: str) -> None:
    """Name the recorded picture that was drawn for the job."""
    _write(session, _mine(held).values(image_digest=digest))


def succeed(session: Session, held: Claim, result: dict[str, Any]) -> None:
    """Write the result and end the job."""
    _write(
        session,
        _mine(held).values(
            status="succeeded",
            result=result,
            fraction=1.0,
            finished_at=now(),
            lease_until=None,
        ),
    )
    record(session, held.job_id)


def fail(session: Session, held: Claim, problem: dict[str, Any]) -> None:
    """End the job with a problem."""
    _write(session, _mine(held).values(lease_until=None))
    end_with_problem(session, session.get_one(Job, held.job_id), problem)


def retry_or_fail(
    session: Session, settings: Settings, held: Claim, problem: dict[str, Any]
) -> None:
    """Queue the job again after a pause, or end it when its attempts are used up."""
    _write(session, _mine(held).values(lease_until=None))
    requeue_or_fail(session, settings, session.get_one(Job, held.job_id), problem)


def give_back(session: Session, settings: Settings, held: Claim) -> None:
    """Queue the job again at once, because its worker is stopping.

    The attempt is not held against it.  Its number stays: only ever higher ones can be a fence.
    """
    _write(session, _mine(held).values(max_attempts=Job.max_attempts + 1))
    _requeue(session, settings, session.get_one(Job, held.job_id), now())


def requeue_or_fail(
    session: Session, settings: Settings, job: Job, problem: dict[str, Any]
) -> None:
    """The same for a job whose row the caller has locked."""
    if job.attempt >= job.max_attempts:
        end_with_problem(session, job, problem)
    else:
        _requeue(session, settings, job, now() + pause_after(settings, job))


def _requeue(session: Session, settings: Settings, job: Job, due_at: datetime) -> None:
    job.status = "queued"
    job.lease_until = None
    announce(session, settings, job, due_at=due_at)
    record(session, job.id)


def end_with_problem(session: Session, job: Job, problem: dict[str, Any]) -> None:
    """Fail a job, and with it the index build or delivery that it belonged to."""
    job.status = "failed"
    job.problem = problem
    job.finished_at = now()
    job.lease_until = None
    record(session, job.id)
    if job.index_id and job.kind.startswith("index."):
        fail_build(session, job.index_id, problem)
    elif job.kind == WEBHOOK_DELIVERY:
        attempts.end(session, job.id, "failed")


def fail_build(session: Session, index_id: str, problem: dict[str, Any]) -> None:
    """End an index build that cannot be finished, with all its jobs that have not ended."""
    failed = (
        update(IndexVersion)
        .where(IndexVersion.id == index_id, IndexVersion.state == "building")
        .values(state="failed", problem=problem)
        .returning(IndexVersion.id)
    )
    if session.scalars(failed).one_or_none():
        tell_of_index(session, index_id, "failed")
    # A shard that is just ending holds its own row and waits for the index's: waiting for it would
    # be a deadlock.  It is left to end; a build that has failed stays so.
    siblings = (
        select(Job.id)
        .where(
            Job.index_id == index_id,
            Job.kind.startswith("index."),
            Job.status.in_(("queued", "running")),
        )
        .with_for_update(skip_locked=True)
    )
    session.execute(
        update(Job)
        .where(Job.id.in_(session.scalars(siblings).all()))
        .values(status="canceled", finished_at=now(), lease_until=None)
    )


def _mine(held: Claim) -> Update:
    return update(Job).where(
        Job.id == held.job_id, Job.attempt == held.attempt, Job.status == "running"
    )


def _write(session: Session, statement: Update) -> None:
    result = session.execute(statement)
    assert isinstance(result, CursorResult)
    if result.rowcount != 1:
        raise LeaseLostError
