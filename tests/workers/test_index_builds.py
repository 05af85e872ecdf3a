"""The end of an index build is started once, by whoever ends the last shard."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.config import Settings
from app.database.engine import Database
from app.database.tables import Dataset, IndexVersion, Job, Model
from app.jobs.index_builds import finalise_after_last_shard, mark_ready
from app.jobs.kinds import INDEX_FINALISE, INDEX_SHARD
from app.jobs.submission import submit
from attribution.errors import InputError
from workers.execution import Outcome, run_next
from workers.leases import Lease

SHARDS = 4


def add_index(session: Session, index_id: str) -> None:
    session.add(
        IndexVersion(
            id=index_id,
            model_id="mdl_1",
            dataset_id="ds_1",
            config={},
            config_digest=index_id,
            shard_size=1,
            directory=f"indexes/{index_id}",
        )
    )
    session.flush()


@pytest.fixture
def shards(service: Settings, database: Database) -> list[str]:
    with database.write() as session:
        session.add(Dataset(id="ds_1", name="d", path="/d", digest="", sample_count=SHARDS))
        session.add(
            Model(
                id="mdl_1",
                name="m",
                directory="/m",
                clip_directory="/c",
                digest="",
                clip_digest="",
                pipeline_class="DDPMPipeline",
            )
        )
        session.flush()
        add_index(session, "idx_1")
        return [
            submit(session, service, INDEX_SHARD, {"shard": number}, index_id="idx_1").id
            for number in range(SHARDS)
        ]


def jobs(database: Database, kind: str) -> list[Job]:
    with database.read() as session:
        return list(session.scalars(select(Job).where(Job.kind == kind)))


def test_last_shards_at_once_start_one_end(
    service: Settings, database: Database, shards: list[str]
) -> None:
    together = threading.Barrier(SHARDS)

    def work(job: Job, lease: Lease) -> Outcome:
        together.wait()
        return Outcome({}, lambda session: finalise_after_last_shard(session, service, "idx_1"))

    with ThreadPoolExecutor(SHARDS) as pool:
        list(pool.map(lambda _: run_next(database, service, {INDEX_SHARD: work}), shards))
    assert {job.status for job in jobs(database, INDEX_SHARD)} == {"succeeded"}
    assert len(jobs(database, INDEX_FINALISE)) == 1


def test_a_failed_shard_fails_the_build(
    service: Settings, database: Database, shards: list[str]
) -> None:
    def work(job: Job, lease: Lease) -> Outcome:
        raise InputError("a broken picture")

    run_next(database, service, {INDEX_SHARD: work})
    assert [job.status for job in jobs(database, INDEX_SHARD)].count("canceled") == SHARDS - 1
    with database.read() as session:
        index = session.get_one(IndexVersion, "idx_1")
    assert index.state == "failed"
    assert index.problem is not None
    assert index.problem["detail"] == "a broken picture"


def test_shards_that_end_at_once_do_not_deadlock(
    service: Settings, database: Database, shards: list[str]
) -> None:
    together = threading.Barrier(SHARDS)

    def work(job: Job, lease: Lease) -> Outcome:
        together.wait()
        if job.request["shard"] % 2:
            raise InputError("a broken picture")
        return Outcome({}, lambda session: finalise_after_last_shard(session, service, "idx_1"))

    with ThreadPoolExecutor(SHARDS) as pool:
        list(pool.map(lambda _: run_next(database, service, {INDEX_SHARD: work}), shards))
    assert {job.status for job in jobs(database, INDEX_SHARD)} <= {
        "succeeded", "failed", "canceled"
    }  # fmt: skip
    assert jobs(database, INDEX_FINALISE) == []
    with database.read() as session:
        assert session.get_one(IndexVersion, "idx_1").state == "failed"


def test_the_newest_ready_version_is_the_active_one(
    service: Settings, database: Database, shards: list[str]
) -> None:
    with database.write() as session:
        add_index(session, "idx_2")
    for index_id in ("idx_1", "idx_2"):
        with database.write() as session:
            mark_ready(session, index_id, "digest")
    with database.read() as session:
        active = session.scalars(select(IndexVersion.id).where(IndexVersion.active)).all()
    assert active == ["idx_2"]
