"""What a worker process has one of: its settings and its database."""

from __future__ import annotations

from functools import cache

from app.config import Settings
from app.database.engine import Database


@cache
def settings() -> Settings:
    """The settings, from the environment."""
    return Settings()


@cache
def database() -> Database:
    """The database; opened on first use, hence after the fork."""
    return Database(settings().database_url)
