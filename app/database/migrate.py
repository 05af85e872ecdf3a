"""Bringing a database to the tables of this version, from wherever the package is installed."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

import migrations
from app.database.engine import Database


def alembic_config(connection: Connection) -> Config:
    """Alembic, working on an open connection."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.attributes["connection"] = connection
    return config


def upgrade(database: Database) -> None:
    """Migrate to the newest version; an empty database gets all tables."""
    with database.engine.begin() as connection:
        command.upgrade(alembic_config(connection), "head")


def is_current(database: Database) -> bool:
    """Whether the database has the newest version's tables."""
    with database.read() as session:
        connection = session.connection()
        scripts = ScriptDirectory.from_config(alembic_config(connection))
        found = MigrationContext.configure(connection).get_current_revision()
        return found == scripts.get_current_head()
