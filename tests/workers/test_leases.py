"""Claims, leases and fencing, on both databases."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import update

from app.config import Settings
from app.database.engine import Database
from app.database.tables import Job, now
from app.jobs.cancellation import cancel
from app.jobs.claims import Claim, LeaseLostError, claim, report_progress, succeed
from app.jobs.kinds import ATTRIBUTION
from app.jobs.submission import submit
from attribution.errors import InputError
from workers.execution import Outcome, run_next
from workers.leases import Lease
from workers.reaper import reap


@pytest.fixture
def job_id(service: Settings, database: Database) -> str:
    with database.write() as session:
        return submit(session, service, ATTRIBUTION, {}).id


def get(database: Database, job_id: str) -> Job:
    with database.read() as session:
        return session.get_one(Job, job_id)


def take(database: Database, settings: Settings, job_id: str) -> Claim | None:
    with database.write() as session:
        return claim(session, settings, job_id)


def let_lease_expire(database: Database, settings: Settings) -> None:
    with database.write() as session:
        session.execute(update(Job).values(lease_until=now() - timedelta(seconds=1)))
    reap(database, settings)


def test_of_many_claims_at_once_one_wins(
    service: Settings, database: Database, job_id: str
) -> None:
    start = threading.Barrier(8)

    def race() -> Claim | None:
        start.wait()
        return take(database, service, job_id)

    with ThreadPoolExecutor(8) as pool:
        claims = [race.result() for race in [pool.submit(race) for _ in range(8)]]
    assert [won for won in claims if won] == [Claim(job_id, 1)]


def test_an_expired_lease_is_given_on_and_its_holder_fenced(
    service: Settings, database: Database, job_id: str
) -> None:
    first = take(database, service, job_id)
    assert first is not None
    let_lease_expire(database, service)
    second = take(database, service, job_id)
    assert second == Claim(job_id, 2)
    with pytest.raises(LeaseLostError), database.write() as session:
        report_progress(session, first, "late", 1.0)
    with pytest.raises(LeaseLostError), database.write() as session:
        succeed(session, first, {"by": "first"})
    with database.write() as session:
        succeed(session, second, {"by": "second"})
    job = get(database, job_id)
    assert (job.status, job.attempt, job.result) == ("succeeded", 2, {"by": "second"})


def test_a_job_whose_workers_die_fails_in_the_end(
    service: Settings, database: Database, job_id: str
) -> None:
    for _ in range(service.max_attempts):
        assert take(database, service, job_id)
        let_lease_expire(database, service)
    job = get(database, job_id)
    assert job.status == "failed"
    assert job.problem is not None
    assert job.problem["type"] == "urn:headwater:problem:worker-died"
    assert take(database, service, job_id) is None


def test_the_heartbeat_keeps_a_lease(service: Settings, database: Database, job_id: str) -> None:
    brief = service.model_copy(update={"lease_seconds": 1.0})
    held = take(database, brief, job_id)
    assert held is not None
    with Lease(database, brief, held) as lease:
        time.sleep(1.6)
        reap(database, brief)
        lease.report("work", 0.5)
    assert get(database, job_id).status == "running"


def test_a_canceled_job_stops_its_work(service: Settings, database: Database, job_id: str) -> None:
    def work(job: Job, lease: Lease) -> Outcome:
        with database.write() as session:
            assert cancel(session, job.id)
        lease.report("work", 0.5)
        raise AssertionError("the report should have stopped this")

    run_next(database, service, {ATTRIBUTION: work})
    job = get(database, job_id)
    assert (job.status, job.result, job.problem) == ("canceled", None, None)


def test_input_that_cannot_work_is_not_tried_again(
    service: Settings, database: Database, job_id: str
) -> None:
    def work(job: Job, lease: Lease) -> Outcome:
        raise InputError("the weights have changed")

    run_next(database, service, {ATTRIBUTION: work})
    job = get(database, job_id)
    assert (job.status, job.attempt) == ("failed", 1)
    assert job.problem is not None
    assert (job.problem["status"], job.problem["detail"]) == (422, "the weights have changed")
