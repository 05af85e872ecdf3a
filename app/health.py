"""``/livez`` and ``/readyz``."""

from __future__ import annotations

import logging

from fastapi import APIRouter
from sqlalchemy.exc import SQLAlchemyError

from app.database.migrate import is_current
from app.dependencies import WholeDatabaseDep
from app.problems import ProblemError, problem_responses

logger = logging.getLogger(__name__)

router = APIRouter(tags=["health"])


@router.get("/livez")
def live() -> dict[str, str]:
    """Whether the process answers."""
    return {"status": "ok"}


@router.get("/readyz", responses=problem_responses(503))
def ready(database: WholeDatabaseDep) -> dict[str, str]:
    """Whether the database can be reached and has this version's tables."""
    try:
        current = is_current(database)
    except SQLAlchemyError as error:
        logger.warning("database out of reach: %s", error)
        raise ProblemError(503, "database-unreachable", "The database cannot be reached") from None
    if not current:
        raise ProblemError(503, "database-outdated", "The database is not migrated")
    return {"status": "ok"}
