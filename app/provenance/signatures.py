"""Signing as a job: one follows each answer, and one what is asked for and was never signed."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.attributions import repository
from app.config import Settings
from app.database.engine import TenantDatabase
from app.database.tables import Job, now
from app.jobs.kinds import C2PA_SIGN
from app.jobs.submission import submit
from app.problems import ProblemError

SOON = "2"
AGAIN_AFTER = timedelta(minutes=1)
"""How long a signature that failed is left alone: its cause is the operator's to put right."""


def submit_signing(session: Session, settings: Settings, attribution: Job) -> None:
    """Let a picture be signed, if the installation signs."""
    if settings.c2pa_certificate is not None:
        submit(
            session,
            settings,
            C2PA_SIGN,
            {"attribution": attribution.id},
            tenant_id=attribution.tenant_id,
        )


def why_unsigned(database: TenantDatabase, settings: Settings, attribution_id: str) -> ProblemError:
    """The problem with a signed picture that is not there; it is signed now, if nobody does it.

    It may be older than the certificate, or its signature may have failed.
    """
    with database.read() as session:
        newest = _newest(session, attribution_id)
    if newest and newest.status == "failed" and _is_recent(newest.finished_at):
        return ProblemError(
            503,
            "c2pa-failed",
            "The picture could not be signed",
            "the operator's certificate or key is at fault",
            headers={"Retry-After": str(int(AGAIN_AFTER.total_seconds()))},
        )
    if not _is_under_way(newest):
        with database.write() as session:
            # Of several that ask at once, one finds nobody at it.
            attribution = repository.find(session, attribution_id, lock=True)
            if not _is_under_way(_newest(session, attribution_id)):
                submit_signing(session, settings, attribution)
    return ProblemError(
        404, "c2pa-not-ready", "The picture is not signed yet", headers={"Retry-After": SOON}
    )


def _newest(session: Session, attribution_id: str) -> Job | None:
    of_it = Job.request["attribution"].as_string() == attribution_id
    query = select(Job).where(Job.kind == C2PA_SIGN, of_it).order_by(Job.id.desc()).limit(1)
    return session.scalars(query).first()


def _is_under_way(signing: Job | None) -> bool:
    return signing is not None and signing.status in ("queued", "running")


def _is_recent(moment: datetime | None) -> bool:
    return moment is not None and moment > now() - AGAIN_AFTER
