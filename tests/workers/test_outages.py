"""Relay and workers go on when Redis has lost everything, and when PostgreSQL was away."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
import pytest
import redis
from programs import free_port, program, wait_for
from service_lanes import POSTGRESQL
from sqlalchemy import make_url

from app.config import Settings
from app.database.engine import Database
from app.database.tables import Job
from app.jobs.kinds import ATTRIBUTION
from app.jobs.submission import submit

WORKER = ["celery", "-A", "scripted_worker", "worker", "--concurrency", "1"]

AWAY_SECONDS = 3  # longer than a lease: the running job is tried again

pytestmark = pytest.mark.parametrize("service", ["servers"], indirect=True)


@pytest.fixture
def processes() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@contextmanager
def own_redis(port: int) -> Iterator[None]:
    """A Redis of the test's own, which keeps nothing; at the end it is killed."""
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd="/") as server:
        try:
            wait_for(lambda: answers(port), "Redis")
            yield
        finally:
            server.kill()


def answers(port: int) -> bool:
    try:
        return bool(redis.Redis(port=port).ping())
    except redis.RedisError:
        return False


@contextmanager
def database_away(url: str) -> Iterator[None]:
    """Cut every connection to one database, and refuse new ones: as while the server restarts."""
    name = make_url(url).database
    dsn = make_url(POSTGRESQL).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        try:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
            )
            yield
        finally:
            admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')


def add(database: Database, settings: Settings, **request: Any) -> str:
    with database.write() as session:
        return submit(session, settings, ATTRIBUTION, request).id


def get(database: Database, job_id: str) -> Job:
    with database.read() as session:
        return session.get_one(Job, job_id)


def succeeds(database: Database, job_id: str) -> None:
    wait_for(lambda: get(database, job_id).status == "succeeded", "the job's end")


def test_both_go_on(service: Settings, database: Database, processes: ExitStack) -> None:
    port = free_port()
    settings = service.model_copy(update={"broker_url": f"redis://127.0.0.1:{port}/0"})
    with own_redis(port):
        relay = processes.enter_context(program(settings, "workers.relay"))
        worker = processes.enter_context(program(settings, *WORKER))
        succeeds(database, add(database, settings))
    meanwhile = add(database, settings)
    with own_redis(port):
        succeeds(database, meanwhile)

        running = add(database, settings, sleep_attempts=1)
        wait_for(lambda: get(database, running).stage == "sleeping", "the job's start")
        with database_away(settings.database_url):
            time.sleep(AWAY_SECONDS)
        succeeds_again = add(database, settings)
        (settings.home / "traces" / f"{running}.wake").touch()
        for job_id in (running, succeeds_again):
            succeeds(database, job_id)
        assert (relay.poll(), worker.poll()) == (None, None)
