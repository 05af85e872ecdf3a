"""The two ways to run the service, each a lane that every test of it takes.

``embedded``: SQLite and the filesystem transport.  ``servers``: PostgreSQL and Redis, where they
are (see ``start_services.py``; those of this machine by default).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from sqlalchemy import make_url, text

from app.config import Settings
from app.database.engine import Database
from app.database.migrate import upgrade
from app.database.tables import Base

POSTGRESQL = os.environ.get(
    "HEADWATER_TEST_DATABASE_URL", "postgresql+psycopg://postgres@127.0.0.1:5432/postgres"
)
REDIS = os.environ.get("HEADWATER_TEST_REDIS_URL", "redis://127.0.0.1:6379/15")


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """A migrated database of their own for the tests of one directory."""
    url = make_url(POSTGRESQL)
    own = url.set(database=f"headwater_test_{secrets.token_hex(6)}")
    try:
        admin = psycopg.connect(
            url.set(drivername="postgresql").render_as_string(hide_password=False),
            autocommit=True,
            connect_timeout=3,
        )
    except psycopg.OperationalError as error:
        pytest.skip(f"no PostgreSQL: {error}")
    admin.execute(f'CREATE DATABASE "{own.database}"')
    database = Database(own.render_as_string(hide_password=False))
    upgrade(database)
    database.close()
    yield own.render_as_string(hide_password=False)
    admin.execute(f'DROP DATABASE "{own.database}" WITH (FORCE)')
    admin.close()


@pytest.fixture(params=["embedded", "servers"])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings with short leases and an empty, migrated database."""
    quick = {"home": tmp_path / "var", "lease_seconds": 2, "resend_seconds": 2}
    if request.param == "embedded":
        settings = Settings(**quick)
        database = Database(settings.database_url)
        upgrade(database)
    else:
        url = request.getfixturevalue("postgresql_url")
        try:
            redis.Redis.from_url(REDIS).flushdb()
        except redis.ConnectionError as error:
            pytest.skip(f"no Redis: {error}")
        settings = Settings(database_url=url, broker_url=REDIS, **quick)
        database = Database(settings.database_url)
        with database.write() as session:
            session.execute(text(f"TRUNCATE {', '.join(Base.metadata.tables)} CASCADE"))
    database.close()
    return settings


@pytest.fixture
def database(service: Settings) -> Iterator[Database]:
    """The lane's database."""
    opened = Database(service.database_url)
    yield opened
    opened.close()
