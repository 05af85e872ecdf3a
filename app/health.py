"""``/livez``, ``/readyz`` and ``/metrics``: what watches the installation asks here."""

from __future__ import annotations

import hmac
import logging
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import PlainTextResponse
from fastapi.security import HTTPAuthorizationCredentials
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app import heartbeats
from app.access.caller import bearer
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


@router.get("/metrics", response_class=PlainTextResponse, responses=problem_responses(401))
def metrics(
    request: Request,
    settings: SettingsDep,
    sent: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
) -> Response:
    """Figures for Prometheus; none is of one tenant."""
    wanted = settings.metrics_token.encode()
    if wanted and not (sent and hmac.compare_digest(sent.credentials.encode(), wanted)):
        raise ProblemError(
            401,
            "metrics-token-invalid",
            "The installation's metrics token is needed",
            headers={"WWW-Authenticate": "Bearer"},
        )
    content = generate_latest(request.app.state.metrics)
    return Response(content, media_type=CONTENT_TYPE_LATEST)


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
