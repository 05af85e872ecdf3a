"""Bringing a database to the tables of this version, from wherever the package is installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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


@contextmanager
def migrating(database: Database) -> Iterator[Connection]:
    """A transaction for migrations.

    SQLite changes a table by making it anew, and dropping the old one would delete the rows that
    refer to it: its foreign keys rest meanwhile, and are checked before the commit.
    """
    with database.engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        sqlite = connection.dialect.name == "sqlite"
        if sqlite:  # no statement of SQLAlchemy's: that would begin a transaction
            driver.execute("PRAGMA foreign_keys=OFF")
        try:
            with connection.begin():
                yield connection
                if sqlite and connection.exec_driver_sql("PRAGMA foreign_key_check").first():
                    raise RuntimeError("a migration left rows that refer to nothing")
        finally:
            if sqlite:
                driver.execute("PRAGMA foreign_keys=ON")


def upgrade(database: Database, version: str = "head") -> None:
    """Migrate to a version, the newest by default; an empty database gets all tables."""
    with migrating(database) as connection:
        command.upgrade(alembic_config(connection), version)


def downgrade(database: Database, version: str) -> None:
    """Go back to an older version's tables; ``base`` has none."""
    with migrating(database) as connection:
        command.downgrade(alembic_config(connection), version)


def is_current(database: Database) -> bool:
    """Whether the database has the newest version's tables."""
    with database.read() as session:
        connection = session.connection()
        scripts = ScriptDirectory.from_config(alembic_config(connection))
        found = MigrationContext.configure(connection).get_current_revision()
        return found == scripts.get_current_head()
