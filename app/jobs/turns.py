"""Whose turn it is: a message only says that there may be work, and the best of it is taken.

What somebody waits for comes first.  Among equals tenants take turns, so that a thousand jobs of
one do not keep another waiting; a tenant's own come in their order.  Each queue has turns of its
own: who is sent many webhooks does not wait longer for a model.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import ColumnElement, and_, exists, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.config import Settings
from app.database.tables import Job, Tenant, Turn, now
from app.jobs.claims import Claim, claim
from app.jobs.kinds import PRIORITIES, Queue, queue_of

TENANTS_AT_ONCE = 20


def claim_next(session: Session, settings: Settings, kinds: Collection[str]) -> Claim | None:
    """Claim the job whose turn it is among a queue's kinds; None where nothing is due."""
    (queue,) = {queue_of(kind) for kind in kinds}
    for priority in PRIORITIES:
        waits = _waits(queue, kinds, priority)
        tenants = (
            select(Tenant.id)
            .outerjoin(Turn, and_(Turn.tenant_id == Tenant.id, Turn.queue == queue))
            .where(exists().where(Job.tenant_id == Tenant.id, *waits))
            .order_by(Turn.served_at.nulls_first(), Tenant.id)
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
                _was_served(session, tenant, queue)
                return held
    return None


def _waits(queue: Queue, kinds: Collection[str], priority: int) -> tuple[ColumnElement[bool], ...]:
    return (
        Job.status == "queued",
        Job.queue == queue,
        Job.priority == priority,
        Job.kind.in_(kinds),
        # Only a pause has to end.  What was just submitted is due even where this machine's clock
        # is behind the other's: the message that came would be wasted.
        or_(Job.attempt == 0, Job.due_at <= now()),
        or_(Job.expires_at.is_(None), Job.expires_at > now()),
    )


def _was_served(session: Session, tenant: str, queue: Queue) -> None:
    again = (
        update(Turn)
        .where(Turn.tenant_id == tenant, Turn.queue == queue)
        .values(served_at=now())
        .returning(Turn.tenant_id)
    )
    if session.execute(again).first():
        return
    try:
        with session.begin_nested():
            session.execute(insert(Turn).values(tenant_id=tenant, queue=queue, served_at=now()))
    except IntegrityError:  # another worker's claim was the tenant's first
        session.execute(again)
