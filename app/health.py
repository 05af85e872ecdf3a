"""``/livez`` and ``/readyz``."""

from __future__ import annotations

import logging

from fastapi import APIRouter
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app import heartbeats
from app.config import Settings
from app.database.migrate import is_current
from app.database.tables import IndexVersion
from app.dependencies import SettingsDep, WholeDatabaseDep
from app.problems import ProblemError, problem_responses

logger = logging.getLogger(__name__)

router = APIRouter(tags=["health"])


@router.get("/livez")
def live() -> dict[str, str]:
    """Whether the process answers."""
    return {"status": "ok"}


@router.get("/readyz", responses=problem_responses(503))
def ready(database: WholeDatabaseDep, settings: SettingsDep) -> dict[str, str]:
    """Whether questions will be answered.

    The database must be there with this version's tables, the files of every active index, and a
    relay and a worker of each queue that were heard of lately.
    """
    try:
        if not is_current(database):
            raise _not_ready("database-outdated", "The database is not migrated")
        with database.read() as session:
            gone = heartbeats.missing(session, settings)
            lost = lost_indexes(session, settings)
    except SQLAlchemyError:
        logger.warning("the database is out of reach")
        raise _not_ready("database-unreachable", "The database cannot be reached") from None
    if gone:
        raise _not_ready(
            "programs-gone", "Nothing was heard of some programs lately", ", ".join(gone)
        )
    if lost:
        raise _not_ready(
            "index-files-missing", "Files of active indexes are missing", ", ".join(lost)
        )
    return {"status": "ok"}


def lost_indexes(session: Session, settings: Settings) -> list[str]:
    """Active versions whose manifest is not where the database says."""
    active = session.execute(
        select(IndexVersion.id, IndexVersion.directory).where(IndexVersion.active)
    )
    return [
        index_id
        for index_id, directory in active
        if not (settings.home / directory / "manifest.json").is_file()
    ]


def _not_ready(slug: str, title: str, detail: str | None = None) -> ProblemError:
    return ProblemError(503, slug, title, detail, headers={"Retry-After": "5"})
