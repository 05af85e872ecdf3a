"""Workers and relay as real processes, and what happens when they are killed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from programs import kill, program, wait_for

from app.config import Settings
from app.database.engine import Database
from app.database.tables import Job
from app.jobs.cancellation import cancel
from app.jobs.kinds import ATTRIBUTION, TASKS
from app.jobs.submission import submit
from workers.broker import make_celery

WORKER = ["celery", "-A", "scripted_worker", "worker", "--concurrency", "2", "--loglevel", "INFO"]


def add(database: Database, settings: Settings, **request: Any) -> str:
    with database.write() as session:
        return submit(session, settings, ATTRIBUTION, request).id


def get(database: Database, job_id: str) -> Job:
    with database.read() as session:
        return session.get_one(Job, job_id)


def executions(settings: Settings, job_id: str) -> int:
    trace = settings.home / "traces" / job_id
    return len(trace.read_text().splitlines()) if trace.exists() else 0


@pytest.fixture
def processes() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_jobs_survive_failures_duplicates_and_kills(
    service: Settings, database: Database, processes: ExitStack
) -> None:
    """One worker start serves several cases: starting it is what costs the time."""
    flaky = add(database, service, fail_attempts=1)
    poison = add(database, service, fail_attempts=99)
    doubled = add(database, service)
    processes.enter_context(program(service, "workers.relay"))
    worker = processes.enter_context(program(service, *WORKER))

    celery = make_celery(service)
    for _ in range(5):
        celery.send_task(TASKS["gpu"])
    wait_for(lambda: get(database, doubled).status == "succeeded", "the doubled job's end")

    wait_for(lambda: get(database, flaky).status == "succeeded", "the flaky job's end")
    assert get(database, flaky).attempt == 2
    wait_for(lambda: get(database, poison).status == "failed", "the poison job's end")
    failed = get(database, poison)
    assert failed.attempt == service.max_attempts
    assert failed.problem is not None
    assert failed.problem["status"] == 500
    assert "Traceback" not in str(failed.problem)
    assert executions(service, doubled) == 1

    canceled = add(database, service, sleep_attempts=9)
    wait_for(lambda: get(database, canceled).stage == "sleeping", "the job to be canceled")
    with database.write() as session:
        assert cancel(session, canceled)

    killed = add(database, service, sleep_attempts=1)
    wait_for(lambda: get(database, killed).stage == "sleeping", "the job to be killed")
    kill(worker)
    processes.enter_context(program(service, *WORKER))
    wait_for(lambda: get(database, killed).status == "succeeded", "the killed job's end")
    ended = get(database, killed)
    assert (ended.attempt, ended.result) == (2, {"attempt": 2})
    assert executions(service, killed) == 2
    assert get(database, canceled).status == "canceled"
    assert executions(service, canceled) == 1
