"""What routes are given: the settings, the caller's part of the database, the picture store."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Request

from app.access.caller import CallerDep
from app.config import Settings
from app.database.engine import Database, TenantDatabase
from app.storage import ImageStore

# Asynchronous though they wait for nothing: FastAPI gives each other one to a thread and back.


async def _settings(request: Request) -> Settings:
    return cast(Settings, request.app.state.settings)


async def _whole_database(request: Request) -> Database:
    return cast(Database, request.app.state.database)


async def _database(
    whole: Annotated[Database, Depends(_whole_database)], caller: CallerDep
) -> TenantDatabase:
    return whole.of_tenant(caller.tenant)


async def _images(request: Request) -> ImageStore:
    return cast(ImageStore, request.app.state.images)


SettingsDep = Annotated[Settings, Depends(_settings)]
DatabaseDep = Annotated[TenantDatabase, Depends(_database)]
WholeDatabaseDep = Annotated[Database, Depends(_whole_database)]
"""Every tenant's rows: for what belongs to no tenant."""
ImagesDep = Annotated[ImageStore, Depends(_images)]
