"""Making a job: its row and its message are written in one transaction, or neither is."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from app.config import Settings
from app.database.tables import DEFAULT_TENANT, Job, OutboxMessage, now
from app.identifiers import new_id
from app.jobs.events import record
from app.jobs.kinds import ID_PREFIXES, INTERACTIVE, queue_of
from app.requests import current_request_id
from app.tracing import current_traceparent


def submit(
    session: Session,
    settings: Settings,
    kind: str,
    request: dict[str, Any],
    *,
    index_id: str | None = None,
    image_digest: str | None = None,
    priority: int = INTERACTIVE,
    expires_at: datetime | None = None,
    webhook_url: str | None = None,
    tenant_id: str = DEFAULT_TENANT,
) -> Job:
    """Insert a queued job with its outbox row; the relay sends it after the commit.

    In a tenant's session the job is that tenant's.
    """
    job = Job(
        id=new_id(ID_PREFIXES.get(kind, "job")),
        kind=kind,
        queue=queue_of(kind),
        index_id=index_id,
        image_digest=image_digest,
        priority=priority,
        request_id=current_request_id(),
        traceparent=current_traceparent(),
        expires_at=expires_at,
        webhook_url=webhook_url,
        tenant_id=tenant_id,
        max_attempts=settings.max_attempts,
        request=request,
        created_at=now(),
    )
    session.add(job)
    announce(session, settings, job)
    record(session, job.id)
    return job


def announce(
    session: Session, settings: Settings, job: Job, *, due_at: datetime | None = None
) -> None:
    """Write a message for a queued job, and when to suspect that the message was lost."""
    job.due_at = due_at = due_at or now()
    # Twice the age: a job that merely waits behind others gets few needless messages.
    patience = max(timedelta(seconds=settings.resend_seconds), now() - job.created_at)
    job.resend_at = due_at + patience
    session.flush()  # its row comes before the message that names it
    session.add(OutboxMessage(job_id=job.id, kind=job.kind, due_at=due_at))
