"""The installation that the environment describes: its settings and its database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cli.errors import CommandError

if TYPE_CHECKING:
    from app.config import Settings
    from app.database.engine import Database


def read_settings() -> Settings:
    """Settings from ``HEADWATER_…``; a wrong one is named in one line."""
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from app.config import Settings

    try:
        return Settings()
    except SettingsError as error:
        raise CommandError(str(error)) from None
    except ValidationError as error:
        faults = [
            f"HEADWATER_{'_'.join(map(str, fault['loc'])).upper()}: {fault['msg']}"
            for fault in error.errors()
        ]
        raise CommandError("; ".join(faults)) from None


@contextmanager
def migrated_database() -> Iterator[Database]:
    """The database with the tables of this version; one out of reach is one line."""
    from sqlalchemy.exc import OperationalError

    from app.database.engine import Database
    from app.database.migrate import upgrade

    try:
        database = Database(read_settings().database_url)
        upgrade(database)
        yield database
    except OperationalError as error:
        raise CommandError(f"the database cannot be reached: {error.orig}") from None
    database.close()
