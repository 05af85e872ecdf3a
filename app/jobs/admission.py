"""What is accepted: not more than a tenant may ask, and not more than the queue can bear.

Refusing early and saying when to come back is kinder than accepting what will be late.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.config import Settings
from app.database.tables import Job, Tenant, now
from app.jobs.kinds import ATTRIBUTION
from app.problems import ProblemError

DAY = timedelta(days=1)
BUSY_SECONDS = 10


def admit(session: Session, settings: Settings, tenant_id: str) -> None:
    """Raise a 429 or 503 problem where one more attribution is too many.

    In the transaction that submits it: the tenant's row is locked, so that of many requests at
    once none counts the jobs before another one's is there.
    """
    if settings.max_queued and _waiting(session, settings.max_queued) >= settings.max_queued:
        raise ProblemError(
            503,
            "queue-full",
            "The queue is full",
            "try again later",
            headers={"Retry-After": str(BUSY_SECONDS)},
        )
    # Of this strength it keeps other admissions out, and not whoever else adds rows of the tenant.
    own = select(Tenant).where(Tenant.id == tenant_id).with_for_update(key_share=True)
    tenant = session.scalars(own).one()
    in_flight = _limit(tenant.max_in_flight, settings.max_in_flight)
    per_day = _limit(tenant.max_per_day, settings.max_per_day)
    mine = (Job.kind == ATTRIBUTION, Job.tenant_id == tenant_id)
    if in_flight:
        open_jobs = select(func.count()).where(*mine, Job.status.in_(("queued", "running")))
        if (session.scalar(open_jobs) or 0) >= in_flight:
            raise _too_many(f"{in_flight} attributions that have not ended", BUSY_SECONDS)
    if per_day:
        since = now() - DAY
        today = select(Job.created_at).where(*mine, Job.created_at > since)
        # The one that has to be a day old before another is accepted.
        last = today.order_by(Job.created_at.desc()).offset(per_day - 1).limit(1)
        blocking = session.scalar(last)
        if blocking is not None:
            raise _too_many(f"{per_day} attributions in a day", _seconds_until(blocking + DAY))


def _waiting(session: Session, up_to: int) -> int:
    """How many attributions are queued; counts no further than it must."""
    some = select(Job.id).where(Job.status == "queued", Job.kind == ATTRIBUTION).limit(up_to)
    return session.scalar(select(func.count()).select_from(some.subquery())) or 0


def _limit(own: int | None, general: int) -> int:
    """A tenant's own limit, or everybody's; 0 is none."""
    return general if own is None else own


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
