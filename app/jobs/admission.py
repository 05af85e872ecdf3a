"""What is accepted: not more than a tenant may ask, and not more than the installation can bear."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.config import Settings
from app.database.tables import Job, Tenant, now
from app.jobs.kinds import ATTRIBUTION
from app.jobs.overload import QUESTIONS, overload
from app.problems import ProblemError

DAY = timedelta(days=1)
IN_FLIGHT_SECONDS = 10


def admit(session: Session, settings: Settings, tenant_id: str, priority: int) -> None:
    """Raise a 429 or 503 problem where one more attribution is too many.

    In the transaction that submits it.  A tenant's requests with a quota wait for each other
    here, so that of many at once none counts the jobs before another one's is there.
    """
    if any(_quota(session, settings, tenant_id)):
        # Rows that merely name the tenant can still be written.
        of_tenant = select(Tenant.id).where(Tenant.id == tenant_id)
        session.execute(of_tenant.with_for_update(key_share=True))
    if refused := refusal(session, settings, tenant_id, priority):
        raise refused


def refusal(
    session: Session, settings: Settings, tenant_id: str, priority: int
) -> ProblemError | None:
    """The problem of one more attribution; for those who would rather know it early."""
    if refused := overload(session, settings, tenant_id, priority):
        return refused
    in_flight, per_day = _quota(session, settings, tenant_id)
    if in_flight:
        some = (
            select(Job.id)
            .where(*QUESTIONS, Job.tenant_id == tenant_id, Job.status.in_(("queued", "running")))
            .limit(in_flight)
        )
        if session.scalar(select(func.count()).select_from(some.subquery())) == in_flight:
            return _too_many(f"{in_flight} attributions that have not ended", IN_FLIGHT_SECONDS)
    if per_day:
        # The one that has to be a day old before another is accepted.
        last = (
            select(Job.created_at)
            .where(Job.tenant_id == tenant_id, Job.kind == ATTRIBUTION)
            .order_by(Job.id.desc())
            .offset(per_day - 1)
            .limit(1)
        )
        blocking = session.scalar(last)
        if blocking is not None and blocking + DAY > now():
            return _too_many(f"{per_day} attributions in a day", _seconds_until(blocking + DAY))
    return None


def _quota(session: Session, settings: Settings, tenant_id: str) -> tuple[int, int]:
    """What the tenant may have in flight, and ask in a day: its own, or everybody's; 0 is all."""
    tenant = session.get_one(Tenant, tenant_id)
    return (
        settings.max_in_flight if tenant.max_in_flight is None else tenant.max_in_flight,
        settings.max_per_day if tenant.max_per_day is None else tenant.max_per_day,
    )


def _seconds_until(moment: datetime) -> int:
    return max(1, math.ceil((moment - now()).total_seconds()))


def _too_many(what: str, retry_after: int) -> ProblemError:
    return ProblemError(
        429,
        "quota-exceeded",
        "The quota is used up",
        f"at most {what}",
        headers={"Retry-After": str(retry_after)},
    )
