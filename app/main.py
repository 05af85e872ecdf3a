"""The HTTP application.  ``uvicorn --factory app.main:create_app`` serves it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

import app.access.routes
import app.attributions.events
import app.attributions.routes
import app.catalogue.routes
import app.datasets.routes
import app.indexes.routes
import app.models.routes
import app.provenance.routes
import app.takedowns.routes
from app import health, problems
from app.access.rate_limit import RateLimit
from app.body_limit import FORM_OVERHEAD, BodyLimit
from app.config import Settings
from app.database.engine import Database
from app.storage import ImageStore


@asynccontextmanager
async def _lifespan(application: FastAPI) -> AsyncIterator[None]:
    yield
    application.state.database.close()


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the application; settings come from the environment unless given."""
    settings = settings or Settings()
    application = FastAPI(
        title="Headwater",
        version=version("headwater"),
        summary="Which training images a generated picture came from, and whose they are.",
        lifespan=_lifespan,
    )
    application.state.settings = settings
    application.state.rate_limit = RateLimit(settings)
    application.state.database = Database(settings.database_url)
    application.state.images = ImageStore(settings.home)
    application.add_middleware(BodyLimit, max_bytes=settings.max_upload_bytes + FORM_OVERHEAD)
    problems.install(application)
    for router in (
        app.access.routes.router,
        app.attributions.routes.router,
        app.attributions.events.router,
        app.provenance.routes.router,
        app.provenance.routes.schemas,
        app.datasets.routes.router,
        app.models.routes.router,
        app.indexes.routes.router,
        app.catalogue.routes.router,
        app.takedowns.routes.router,
        health.router,
    ):
        application.include_router(router)
    return application
