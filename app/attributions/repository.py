"""Queries about attributions."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.database.tables import IndexVersion, Job
from app.jobs.kinds import ATTRIBUTION
from app.problems import ProblemError


def find(session: Session, attribution_id: str, *, lock: bool = False) -> Job:
    """The attribution's job; a 404 problem if there is none, a 410 one if it was deleted."""
    job = session.get(Job, attribution_id, with_for_update=lock or None)
    if job is None or job.kind != ATTRIBUTION:
        raise ProblemError(
            404,
            "attribution-not-found",
            "Attribution not found",
            f"{attribution_id!r} is unknown",
        )
    if job.deleted_at is not None:
        raise ProblemError(410, "attribution-deleted", "The attribution was deleted")
    return job


def page(session: Session, status: str | None, cursor: str | None, limit: int) -> Sequence[Job]:
    """Attributions, newest first, one more than ``limit`` where there are more."""
    query = select(Job).where(Job.kind == ATTRIBUTION, Job.deleted_at.is_(None))
    if status:
        query = query.where(Job.status == status)
    if cursor:
        query = query.where(Job.id < cursor)
    return session.scalars(query.order_by(Job.id.desc()).limit(limit + 1)).all()


def active_indexes(session: Session, model_id: str | None) -> Sequence[IndexVersion]:
    """Active index versions, of one model or of all."""
    query = select(IndexVersion).where(IndexVersion.active)
    if model_id:
        query = query.where(IndexVersion.model_id == model_id)
    return session.scalars(query).all()


def ready_indexes(session: Session, beside: IndexVersion) -> Sequence[IndexVersion]:
    """Finished versions of the same model over the same dataset, newest first."""
    query = (
        select(IndexVersion)
        .where(
            IndexVersion.model_id == beside.model_id,
            IndexVersion.dataset_id == beside.dataset_id,
            IndexVersion.state == "ready",
        )
        .order_by(IndexVersion.id.desc())
    )
    return session.scalars(query).all()
