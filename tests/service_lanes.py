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
from app.database.tables import DEFAULT_TENANT, Base, Tenant

POSTGRESQL = os.environ.get(
    "HEADWATER_TEST_DATABASE_URL", "postgresql://postgres@127.0.0.1/postgres"
)
REDIS = os.environ.get("HEADWATER_TEST_REDIS_URL", "redis://127.0.0.1:6379/15")


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """A migrated database of this session's own."""
    name = f"headwater_test_{os.getpid()}"
    server = make_url(POSTGRESQL)
    dsn = server.set(drivername="postgresql").render_as_string(hide_password=False)
    admin = psycopg.connect(dsn, autocommit=True, connect_timeout=3)
    admin.execute(f'CREATE DATABASE "{name}"')
    own = server.set(drivername="postgresql+psycopg", database=name)
    url = own.render_as_string(hide_password=False)
    database = Database(url)
    upgrade(database)
    database.close()
    yield url
    admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    admin.close()


@pytest.fixture(params=["embedded", "servers"])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """Settings with short leases and an empty, migrated database."""
    quick = {"home": tmp_path / "var", "lease_seconds": 2, "resend_seconds": 2}
    if request.param == "embedded":
        settings = Settings(**quick)
        database = Database(settings.database_url)
        upgrade(database)
    else:
        url = request.getfixturevalue("postgresql_url")
        # Its own queue: another run of the tests may be using the same Redis.
        queue = f"headwater-test-{secrets.token_hex(6)}"
        queues = {"gpu_queue": queue, "cpu_queue": f"{queue}-cpu"}
        settings = Settings(database_url=url, broker_url=REDIS, **queues, **quick)
        database = Database(settings.database_url)
        with database.write() as session:
            session.execute(text(f"TRUNCATE {', '.join(Base.metadata.tables)} CASCADE"))
            session.add(Tenant(id=DEFAULT_TENANT))
    database.close()
    yield settings
    if request.param == "servers":
        broker = redis.Redis.from_url(REDIS)
        if left := broker.keys(f"*{settings.gpu_queue}*"):
            broker.delete(*left)


@pytest.fixture
def database(service: Settings) -> Iterator[Database]:
    """The lane's database."""
    opened = Database(service.database_url)
    yield opened
    opened.close()
