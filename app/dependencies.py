"""What routes are given: the settings, the database, the picture store."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Request

from app.config import Settings
from app.database.engine import Database
from app.storage import ImageStore


def _settings(request: Request) -> Settings:
    return cast(Settings, request.app.state.settings)


def _database(request: Request) -> Database:
    return cast(Database, request.app.state.database)


def _images(request: Request) -> ImageStore:
    return cast(ImageStore, request.app.state.images)


SettingsDep = Annotated[Settings, Depends(_settings)]
DatabaseDep = Annotated[Database, Depends(_database)]
ImagesDep = Annotated[ImageStore, Depends(_images)]
