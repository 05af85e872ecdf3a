"""Workers and relay as real processes, and what happens when they are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from app.config import Settings
from app.database.engine import Database
from app.database.tables import Job
from app.jobs.cancellation import cancel
from app.jobs.kinds import ATTRIBUTION, TASKS
from app.jobs.submission import submit
from workers.broker import make_celery

SECONDS = 40.0
WORKER = ["celery", "-A", "scripted_worker", "worker", "--concurrency", "2", "--loglevel", "INFO"]


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"never came: {what}")


@contextmanager
def program(settings: Settings, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A child of the test in its own process group, killed with it."""
    environment = os.environ | settings.to_environment()
    environment["PYTHONPATH"] = f"{Path(__file__).parent}:{Path(__file__).parents[2]}"
    with subprocess.Popen(
        [sys.executable, "-m", *arguments], env=environment, start_new_session=True
    ) as child:
        try:
            yield child
        finally:
            kill(child)


def kill(child: subprocess.Popen[bytes]) -> None:
    """``kill -9`` of the process with all its children, as the OOM killer or a reboot would."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


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
