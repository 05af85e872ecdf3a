"""Attributions are kept for so long, and then deleted as if their owners had asked for it."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from app.config import Settings
from app.database.engine import Database
from app.database.tables import Job, JobEvent, now
from app.jobs.kinds import ATTRIBUTION
from app.storage import Exports
from app.webhooks.deliveries import forget_deliveries


def forget(session: Session, attribution_ids: Collection[str]) -> None:
    """Forget what was asked and answered; what is left says that there was an attribution."""
    session.execute(
        update(Job)
        .where(Job.id.in_(attribution_ids))
        .values(
            request={},
            result=None,
            problem=None,
            image_digest=None,
            webhook_url=None,
            deleted_at=now(),
        )
    )
    forget_deliveries(session, attribution_ids)
    session.execute(delete(JobEvent).where(JobEvent.job_id.in_(attribution_ids)))


def forget_old_attributions(database: Database, settings: Settings, limit: int = 100) -> int:
    """Delete some of those whose time is over; return how many there were."""
    if not settings.retention_days:
        return 0
    before = now() - timedelta(days=settings.retention_days)
    old = (
        select(Job.id)
        .where(Job.kind == ATTRIBUTION, Job.finished_at < before, Job.deleted_at.is_(None))
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    with database.write() as session:
        ids = session.scalars(old).all()
        forget(session, ids)
    for attribution_id in ids:
        Exports(settings.home).forget(attribution_id)
    return len(ids)
