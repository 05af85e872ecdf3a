"""Whose turn it is: by priority, then from tenant to tenant, each one's in order; never twice."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from app.access.keys import ensure_tenant
from app.config import Settings
from app.database.engine import Database
from app.database.tables import Job, JobEvent, now
from app.jobs.claims import Claim, LeaseLostError, report_progress
from app.jobs.kinds import ATTRIBUTION, BATCH, BUILD, INDEX_SHARD, INTERACTIVE, KINDS
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
        session.execute(update(Job).values(due_at=now() + timedelta(hours=1)))
    assert take(database, service) is None
    with database.write() as session:
        session.execute(update(Job).values(due_at=now()))
    assert taken(database, service) == job


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
