"""SIGTERM: what can end in time ends, the rest goes back to the queue at once, nothing is lost."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from programs import SECONDS, free_port, program, wait_for

from app.config import Settings
from app.database.engine import Database
from app.database.tables import Job
from app.jobs.cancellation import cancel
from app.jobs.kinds import ATTRIBUTION
from app.jobs.submission import submit

WORKER = ["celery", "-A", "scripted_worker", "worker", "--concurrency", "3"]


@pytest.fixture
def settings(service: Settings) -> Settings:
    """No lease ends and no message is sent again while a test runs: that would hide a loss."""
    patient = {"lease_seconds": 600, "resend_seconds": 600, "drain_seconds": 4}
    return service.model_copy(update=patient)


@pytest.fixture
def processes() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def add(database: Database, settings: Settings, **request: Any) -> str:
    with database.write() as session:
        return submit(session, settings, ATTRIBUTION, request).id


def get(database: Database, job_id: str) -> Job:
    with database.read() as session:
        return session.get_one(Job, job_id)


def state(database: Database, job_id: str) -> tuple[str, int]:
    job = get(database, job_id)
    return job.status, job.attempt


def test_a_worker_ends_jobs_or_gives_them_back(
    settings: Settings, database: Database, processes: ExitStack
) -> None:
    relay = processes.enter_context(program(settings, "workers.relay"))
    worker = processes.enter_context(program(settings, *WORKER))
    ending, endless, deaf = (
        add(database, settings, sleep_attempts=1, deaf=kind == "deaf")
        for kind in ("ending", "endless", "deaf")
    )

    def wake(job_id: str) -> None:
        (settings.home / "traces" / f"{job_id}.wake").touch()

    for job_id in (ending, endless, deaf):
        wait_for(lambda: get(database, job_id).stage == "sleeping", "a job's start")  # noqa: B023
    worker.terminate()
    wake(ending)
    wait_for(lambda: state(database, ending) == ("succeeded", 1), "the end of what can end")
    for job_id in (endless, deaf):
        wait_for(lambda: state(database, job_id) == ("queued", 1), "its return")  # noqa: B023
    wake(deaf)  # it has heard nothing: what it writes now is refused
    assert worker.wait(SECONDS) == 0
    assert state(database, deaf) == ("queued", 1)

    processes.enter_context(program(settings, *WORKER))
    for job_id in (endless, deaf):
        wait_for(lambda: state(database, job_id) == ("succeeded", 2), "its second try")  # noqa: B023
        given_back = get(database, job_id)
        assert given_back.result == {"attempt": 2}
        assert given_back.max_attempts == settings.max_attempts + 1
    relay.terminate()
    assert relay.wait(SECONDS) == 0


def test_the_api_ends_answers_that_have_begun(
    settings: Settings, database: Database, processes: ExitStack
) -> None:
    job_id = add(database, settings)
    port = str(free_port())
    api = processes.enter_context(program(settings, "app.server", "127.0.0.1", port))
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=SECONDS) as http:

        def lives() -> bool:
            try:
                return http.get("/livez").is_success
            except httpx.TransportError:
                return False

        wait_for(lives, "the API")
        with http.stream("GET", f"/v1/attributions/{job_id}/events") as answer:
            lines = answer.iter_lines()
            assert next(lines).startswith("id: ")
            api.terminate()
            with database.write() as session:
                assert cancel(session, job_id)
            assert "event: end" in list(lines)
    # uvicorn ends by the signal, once it is done.
    assert api.wait(SECONDS) in (0, -signal.SIGTERM)
