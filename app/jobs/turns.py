"""Whose turn it is: a message only says that there may be work, and the best of it is taken.

What somebody waits for comes first.  Among equals tenants take turns, so that a thousand jobs of
one do not keep another waiting; a tenant's own come in their order.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import ColumnElement, exists, or_, select, update
from sqlalchemy.orm import Session

from app.config import Settings
from app.database.tables import Job, Tenant, now
from app.jobs.claims import Claim, claim
from app.jobs.kinds import PRIORITIES

TENANTS_AT_ONCE = 20


def claim_next(session: Session, settings: Settings, kinds: Collection[str]) -> Claim | None:
    """Claim the job whose turn it is among these kinds; None where nothing is due."""
    for priority in PRIORITIES:
        waits = _waits(kinds, priority)
        tenants = (
            select(Tenant.id)
            .where(exists().where(Job.tenant_id == Tenant.id, *waits))
            .order_by(Tenant.served_at.nulls_first(), Tenant.id)
            .limit(TENANTS_AT_ONCE)
        )
        for tenant in session.scalars(tenants).all():
            # Another worker may hold the first ones at this moment: the next free one is ours.
            first = (
                select(Job.id)
                .where(Job.tenant_id == tenant, *waits)
                .order_by(Job.id)
                .limit(1)
                .with_for_update(skip_locked=True)
            )
            job_id = session.scalars(first).one_or_none()
            if job_id and (held := claim(session, settings, job_id)):
                session.execute(update(Tenant).where(Tenant.id == tenant).values(served_at=now()))
                return held
    return None


def _waits(kinds: Collection[str], priority: int) -> tuple[ColumnElement[bool], ...]:
    return (
        Job.status == "queued",
        Job.priority == priority,
        Job.kind.in_(kinds),
        Job.due_at <= now(),
        or_(Job.expires_at.is_(None), Job.expires_at > now()),
    )
