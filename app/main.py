"""The HTTP application.  ``uvicorn --factory app.main:create_app`` serves it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

import app.access.routes
import app.attributions.events
import app.attributions.routes
import app.catalogue.routes
import app.datasets.routes
import app.indexes.routes
import app.models.routes
import app.provenance.routes
import app.takedowns.routes
import app.web.routes
import app.webhooks.routes
from app import health, problems, tracing
from app.access.rate_limit import RateLimit
from app.body_limit import FORM_OVERHEAD, BodyLimit
from app.config import Settings
from app.database.engine import Database
from app.metrics import DatabaseCollector, HttpMetrics
from app.requests import RequestRecorder
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
    registry = CollectorRegistry()
    application.state.metrics = registry
    application.state.rate_limit = RateLimit(settings)
    application.state.database = Database(settings.database_url)
    application.state.images = ImageStore(settings.home)
    registry.register(DatabaseCollector(application.state.database))
    application.add_middleware(BodyLimit, max_bytes=settings.max_upload_bytes + FORM_OVERHEAD)
    application.add_middleware(RequestRecorder, metrics=HttpMetrics(registry))
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
        app.webhooks.routes.router,
        health.router,
        app.web.routes.router,
    ):
        application.include_router(router)
    tracing.follow_requests(application, settings)
    return application
