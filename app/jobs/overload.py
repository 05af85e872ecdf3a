"""What the installation can bear: more is refused, and told when to come back.

That is kinder than to accept what will be late, or what there is no room for.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.config import Settings
from app.database.tables import Job, now
from app.jobs.kinds import ATTRIBUTION, BATCH, INTERACTIVE, queue_of
from app.problems import ProblemError
from app.storage import free_bytes

QUEUE_SECONDS = 10
DISK_SECONDS = 60

QUESTIONS = (Job.queue == queue_of(ATTRIBUTION), Job.priority.in_((INTERACTIVE, BATCH)))
"""Attributions, as the index of turns finds them: all else that needs a model is a build."""


def overload(
    session: Session, settings: Settings, tenant_id: str, priority: int
) -> ProblemError | None:
    """The 503 problem of a question that is one too many; None where there is room for it."""
    if settings.max_queued and _waiting(session, settings.max_queued) >= settings.max_queued:
        return _busy("queue-full", "The queue is full", QUEUE_SECONDS)
    if settings.max_wait_seconds and priority == INTERACTIVE:
        since = _waits_since(session, tenant_id)
        if since is not None and since < now() - timedelta(seconds=settings.max_wait_seconds):
            return _busy("queue-slow", "The queue is too slow", QUEUE_SECONDS)
    return full_disk(settings)


def full_disk(settings: Settings) -> ProblemError | None:
    """The 503 problem of an installation whose files leave too little room."""
    if free_bytes(settings.home) < settings.min_free_bytes:
        return _busy("disk-full", "The disk is full", DISK_SECONDS)
    return None


def _waiting(session: Session, up_to: int) -> int:
    """How many questions wait, of all tenants: whoever's they are, the database has to bear them.

    Counts no further than it must, and in an index alone.
    """
    some = select(Job.id).where(*QUESTIONS, Job.status == "queued").limit(up_to)
    # Not through the session: a tenant's one counts its own alone.
    connection = session.connection()
    return connection.scalar(select(func.count()).select_from(some.subquery())) or 0


def _waits_since(session: Session, tenant_id: str) -> datetime | None:
    """When the tenant asked the first question that nobody has begun to answer.

    Tenants take turns: what another one waits for says nothing about this one's next question.
    """
    first = (
        select(Job.created_at)
        .where(
            Job.status == "queued",
            Job.queue == queue_of(ATTRIBUTION),
            Job.priority == INTERACTIVE,
            Job.tenant_id == tenant_id,
            Job.attempt == 0,
        )
        .order_by(Job.id)
        .limit(1)
    )
    return session.scalar(first)


def _busy(slug: str, title: str, retry_after: int) -> ProblemError:
    headers = {"Retry-After": str(retry_after)}
    return ProblemError(503, slug, title, "try again later", headers=headers)
