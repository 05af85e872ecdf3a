"""Whose turn it is: by priority, then from tenant to tenant, each one's in order; never twice."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from programs import program, wait_for
from sqlalchemy import func, select, update

from app.access.keys import ensure_tenant
from app.config import Settings
from app.database.engine import Database
from app.database.tables import Job, JobEvent, now
from app.jobs.claims import Claim, LeaseLostError, report_progress
from app.jobs.kinds import ATTRIBUTION, BATCH, BUILD, C2PA_SIGN, INDEX_SHARD, INTERACTIVE, KINDS
from app.jobs.submission import submit
from app.jobs.turns import claim_next
from workers.reaper import reap


def add(database: Database, settings: Settings, tenant: str = "default", **fields: object) -> str:
    ensure_tenant(database, tenant)
    fields = {"kind": ATTRIBUTION, "request": {}} | fields
    with database.of_tenant(tenant).write() as session:
        return submit(session, settings, **fields).id  # type: ignore[arg-type]


def take(database: Database, settings: Settings) -> Claim | None:
    with database.write() as session:
        return claim_next(session, settings, KINDS["gpu"])


def taken(database: Database, settings: Settings) -> str | None:
    held = take(database, settings)
    return held and held.job_id


def test_who_waits_comes_before_batch_and_batch_before_builds(
    service: Settings, database: Database
) -> None:
    build = add(database, service, kind=INDEX_SHARD, priority=BUILD)
    batch = add(database, service, priority=BATCH)
    asked = add(database, service, priority=INTERACTIVE)
    assert [taken(database, service) for _ in range(4)] == [asked, batch, build, None]


def test_tenants_take_turns(service: Settings, database: Database) -> None:
    many = [add(database, service, "ada") for _ in range(6)]
    bobs = [add(database, service, "bob") for _ in range(2)]
    order = [taken(database, service) for _ in range(8)]
    assert sorted(order.index(job) for job in bobs) <= [1, 3]
    assert [job for job in order if job in many] == many
    assert [job for job in order if job in bobs] == bobs


def test_many_workers_take_each_job_once(service: Settings, database: Database) -> None:
    jobs = {add(database, service, f"tenant-{number % 3}") for number in range(24)}
    start = threading.Barrier(8)

    def work(_: int) -> list[str]:
        start.wait()
        mine = []
        while job := taken(database, service):
            mine.append(job)
        return mine

    with ThreadPoolExecutor(8) as pool:
        found = [job for mine in pool.map(work, range(8)) for job in mine]
    assert len(found) == len(jobs)
    assert set(found) == jobs


def test_a_pause_is_kept(service: Settings, database: Database) -> None:
    job = add(database, service)
    with database.write() as session:
        session.execute(update(Job).values(due_at=now() + timedelta(hours=1), attempt=1))
    assert take(database, service) is None
    with database.write() as session:
        session.execute(update(Job).values(due_at=now()))
    assert taken(database, service) == job


def test_a_clock_that_is_behind_delays_nothing(service: Settings, database: Database) -> None:
    """The message has come; that the job is due only in a moment by this clock is no reason."""
    job = add(database, service)
    with database.write() as session:
        session.execute(update(Job).values(due_at=now() + timedelta(seconds=5)))
    assert taken(database, service) == job


def test_work_in_one_queue_costs_no_turn_in_the_other(
    service: Settings, database: Database
) -> None:
    for tenant in ("ada", "bob", "cem"):
        add(database, service, tenant)
        add(database, service, tenant)
    for _ in range(4):
        add(database, service, "ada", kind=C2PA_SIGN)
    turns = []
    for _ in range(4):
        with database.write() as session:
            signing = claim_next(session, service, KINDS["cpu"])
            assert signing
            asked = claim_next(session, service, KINDS["gpu"])
            assert asked
            turns.append(session.get_one(Job, asked.job_id).tenant_id)
    assert turns == ["ada", "bob", "cem", "ada"]


@pytest.mark.parametrize("running", [False, True])
def test_what_is_overdue_expires_and_its_holder_is_fenced(
    service: Settings, database: Database, running: bool
) -> None:
    job = add(database, service, expires_at=now() + timedelta(hours=1))
    held = take(database, service) if running else None
    with database.write() as session:
        session.execute(update(Job).values(expires_at=now() - timedelta(seconds=1)))
    assert take(database, service) is None
    reap(database, service)
    with database.read() as session:
        ended = session.get_one(Job, job)
        assert (ended.status, ended.lease_until) == ("expired", None)
        last = select(JobEvent.status).order_by(JobEvent.id.desc()).limit(1)
        assert session.scalar(last) == "expired"
        assert session.scalar(select(func.count()).where(JobEvent.status == "expired")) == 1
    if held:
        with pytest.raises(LeaseLostError), database.write() as session:
            report_progress(session, held, "late", 0.5)


def test_what_is_overdue_together_expires_together(service: Settings, database: Database) -> None:
    with database.write() as session:
        for _ in range(120):
            submit(session, service, ATTRIBUTION, {}, expires_at=now())
    reap(database, service)
    with database.read() as session:
        assert set(session.scalars(select(Job.status))) == {"expired"}


def test_a_thousand_jobs_of_one_delay_nobody_else(service: Settings, database: Database) -> None:
    """Real relay and worker; then a job that is overdue while the worker is at it."""
    ensure_tenant(database, "ada")
    with database.of_tenant("ada").write() as session:
        for number in range(1000):
            priority = INTERACTIVE if number % 2 else BATCH
            submit(session, service, ATTRIBUTION, {}, priority=priority)

    def started(tenant: str) -> int:
        begun = select(func.count()).where(Job.tenant_id == tenant, Job.started_at.is_not(None))
        with database.read() as session:
            return session.scalar(begun) or 0

    worker = ["celery", "-A", "scripted_worker", "worker", "--concurrency", "1", "-Q"]
    with program(service, "workers.relay"), program(service, *worker, service.gpu_queue):
        wait_for(lambda: started("ada"), "the first of many")
        bobs = add(database, service, "bob")
        before = started("ada")
        wait_for(lambda: started("bob"), "the single job's turn")
        assert started("ada") - before < 100
        assert get(database, bobs).attempt == 1
        of_batch = select(func.count()).where(Job.started_at.is_not(None), Job.priority == BATCH)
        with database.read() as session:
            assert session.scalar(of_batch) == 0

        late = add(database, service, "cem", request={"sleep_attempts": 9})
        wait_for(lambda: get(database, late).stage == "sleeping", "the work on the overdue job")
        with database.write() as session:
            session.execute(update(Job).where(Job.id == late).values(expires_at=now()))
        after = add(database, service, "cem")
        wait_for(lambda: get(database, after).status == "succeeded", "the next job's end")
        overdue = get(database, late)
        assert (overdue.status, overdue.attempt, overdue.result) == ("expired", 1, None)


def get(database: Database, job_id: str) -> Job:
    with database.read() as session:
        return session.get_one(Job, job_id)
