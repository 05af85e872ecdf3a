"""What a takedown's job leaves: nothing of the images, whatever happens on the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select
from written_index import write_index

from app.config import Settings
from app.database.engine import Database
from app.database.tables import DEFAULT_TENANT, Dataset, IndexVersion, Job, Model, Sample, now
from app.indexes.directories import sweep_directories
from app.jobs.claims import fail_build
from app.jobs.index_builds import finalise_after_last_shard, mark_ready
from app.jobs.kinds import ATTRIBUTION, INDEX_FINALISE, INDEX_SHARD
from app.jobs.submission import submit
from app.problems import problem_body
from app.storage import Exports
from app.takedowns import service as takedowns
from app.takedowns.schemas import TakedownIn
from attribution.index.search import Index
from workers.execution import run_next
from workers.tasks.queues import CPU_WORK

KEYS = [f"{number}.png" for number in range(6)]
INDEX = "idx_00000000000000000000000001"


@pytest.fixture
def installation(
    service: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """One dataset of which each image has a creator, and one index over it."""
    for name, found in (("settings", service), ("database", database)):
        monkeypatch.setattr(f"workers.tasks.takedown.{name}", lambda found=found: found)
    manifest = write_index(service.home / "indexes" / INDEX, KEYS)
    with database.write() as session:
        session.add(Dataset(id="ds_1", name="art", path="/art", digest="", sample_count=len(KEYS)))
        session.add(
            Model(
                **{"id": "mdl_1", "name": "m", "directory": "/m", "clip_directory": "/c"},
                **{"digest": "", "clip_digest": "", "pipeline_class": "DDPMPipeline"},
            )
        )
        session.flush()
        session.add_all(
            Sample(dataset_id="ds_1", key=key, creator=f"of {key}", digest=f"sha of {key}")
            for key in KEYS
        )
        add_version(session, INDEX)
        mark_ready(session, INDEX, manifest.digest)
    return service


def add_version(session: Any, index_id: str) -> None:
    session.add(
        IndexVersion(
            **{"id": index_id, "model_id": "mdl_1", "dataset_id": "ds_1", "config": {}},
            **{"config_digest": index_id, "shard_size": 1, "directory": f"indexes/{index_id}"},
        )
    )
    session.flush()


@pytest.fixture
def ask(installation: Settings, database: Database) -> Callable[..., str]:
    """Accept a takedown, without doing its job; return the job."""

    def accepted(*keys: str) -> str:
        wanted = TakedownIn(dataset="art", keys=list(keys))
        shown = takedowns.take_down(database.of_tenant(DEFAULT_TENANT), installation, wanted)
        with database.read() as session:
            return takedowns.find(session, shown.id).job_id

    return accepted


def work(database: Database, settings: Settings) -> None:
    """Do what a worker would."""
    run_next(database, settings, CPU_WORK)


def status(database: Database, job_id: str) -> str:
    with database.read() as session:
        return session.get_one(Job, job_id).status


def opened(settings: Settings, database: Database) -> Index:
    """The index as a worker would open it."""
    with database.read() as session:
        row = session.get_one(IndexVersion, INDEX)
    index = Index(settings.home / row.directory, verify=True)
    assert index.manifest.digest == row.manifest_digest
    return index


def directories(settings: Settings) -> list[str]:
    return sorted(path.name for path in (settings.home / "indexes").iterdir())


def test_the_version_lives_on_without_the_images(
    installation: Settings, database: Database, ask: Callable[..., str]
) -> None:
    jobs = [ask("1.png", "4.png"), ask("0.png")]
    work(database, installation)
    assert opened(installation, database).keys == ["2.png", "3.png", "5.png"]
    work(database, installation)
    assert [status(database, job) for job in jobs] == ["succeeded"] * 2
    assert opened(installation, database).keys == ["2.png", "3.png", "5.png"]
    assert directories(installation) == [f"{INDEX}.3"]


def test_takedowns_at_once_do_not_undo_each_other(
    installation: Settings, database: Database, ask: Callable[..., str]
) -> None:
    jobs = []
    with ThreadPoolExecutor(4) as pool:
        for key in KEYS[:5]:
            jobs.append(ask(key))
            pool.submit(work, database, installation)
    while any(status(database, job) == "queued" for job in jobs):
        work(database, installation)
    assert {status(database, job) for job in jobs} == {"succeeded"}
    assert opened(installation, database).keys == ["5.png"]
    assert directories(installation) == [f"{INDEX}.5"]


class DiedError(Exception):
    """The process is gone, and does nothing more."""


@pytest.mark.parametrize("where", ["replace_directory", "discard"])
def test_a_crash_on_the_way_leaves_nothing_for_good(
    installation: Settings,
    database: Database,
    ask: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    where: str,
) -> None:
    job = ask("2.png")

    def die(*_: object, **__: object) -> None:
        raise DiedError

    with monkeypatch.context() as patch:
        patch.setattr(f"workers.tasks.takedown.{where}", die)
        work(database, installation)
    assert directories(installation) == [INDEX, f"{INDEX}.1"]
    with database.write() as session:
        again = session.get_one(Job, job)
        assert again.status == "queued"
        again.due_at = again.created_at
    work(database, installation)
    assert status(database, job) == "succeeded"
    assert "2.png" not in opened(installation, database).keys
    assert directories(installation) == [f"{INDEX}.1"]


def test_of_an_index_without_images_nothing_is_left(
    installation: Settings, database: Database, ask: Callable[..., str]
) -> None:
    ask(*KEYS)
    work(database, installation)
    with database.read() as session:
        row = session.get_one(IndexVersion, INDEX)
    assert (row.state, row.active) == ("failed", False)
    assert directories(installation) == []


def test_a_build_that_was_ended_leaves_no_files_and_stays_ended(
    installation: Settings, database: Database, ask: Callable[..., str]
) -> None:
    building = INDEX.replace("1", "2")
    shards = installation.home / "indexes" / building / "shards"
    shards.mkdir(parents=True)
    (shards / "0.safetensors").write_bytes(b"features")
    with database.write() as session:
        add_version(session, building)
        submit(session, installation, INDEX_SHARD, {"shard": 0}, index_id=building)
    ask("2.png")
    # Its last jobs were just ending.
    with database.write() as session:
        finalise_after_last_shard(session, installation, building)
        mark_ready(session, building, "digest")
    work(database, installation)
    with database.read() as session:
        assert session.get_one(IndexVersion, building).state == "failed"
        assert session.scalars(select(Job).where(Job.kind == INDEX_FINALISE)).all() == []
    assert directories(installation) == [f"{INDEX}.1"]


def test_many_old_answers_are_rewritten_and_others_are_not(
    installation: Settings, database: Database, ask: Callable[..., str]
) -> None:
    exports = Exports(installation.home)
    exports.directory.mkdir()
    named = {}
    with database.write() as session:
        for number in range(120):
            key = KEYS[number % 3]
            answered = submit(session, installation, ATTRIBUTION, {}, index_id=INDEX)
            answered.status = "succeeded"
            answered.result = {
                "contributors": [{"key": key, "share": 1.0}],
                "by_creator": [{"creator": f"of {key}", "share": 1.0}],
            }
            exports.picture(answered.id).write_bytes(b"signed")
            named[answered.id] = key
    job = ask("1.png")
    work(database, installation)
    assert status(database, job) == "succeeded"
    with database.read() as session:
        jobs = session.scalars(select(Job).where(Job.kind == ATTRIBUTION)).all()
        assert session.get_one(Job, job).result == {"indexes": 1, "answers": 40}
    for answered in jobs:
        assert answered.result is not None
        was_taken = named[answered.id] == "1.png"
        assert ("1.png" in json.dumps(answered.result)) is False
        assert answered.result.get("redacted") == (1 if was_taken else None)
        assert exports.picture(answered.id).exists() != was_taken


def test_a_takedown_that_cannot_read_an_index_says_so_and_goes_on_later(
    installation: Settings, database: Database, ask: Callable[..., str]
) -> None:
    directory = installation.home / "indexes" / INDEX
    away = directory.rename(installation.home / "away")
    job = ask("2.png")
    work(database, installation)
    assert status(database, job) == "failed"
    with database.read() as session:
        problem = session.get_one(Job, job).problem
        takedown = takedowns.page(session, None, 1)[0].id
    assert problem is not None
    assert problem["status"] == 422
    away.rename(directory)
    takedowns.retry(database.of_tenant(DEFAULT_TENANT), installation, takedown)
    work(database, installation)
    assert "2.png" not in opened(installation, database).keys


def test_the_sweep_takes_what_nobody_lives_in(installation: Settings, database: Database) -> None:
    parent = installation.home / "indexes"
    failed = INDEX.replace("1", "2")
    with database.write() as session:
        add_version(session, failed)
        fail_build(session, failed, problem_body(500, "x", "x"))
    for name in (f"{INDEX}.7", f".{INDEX}.7.draft", failed, "idx_unknown"):
        (parent / name).mkdir()
        (parent / name / "file").write_bytes(b"rows")
    (parent / "notes").mkdir()
    long_ago = now() - timedelta(hours=1)
    assert sweep_directories(database, installation.home, long_ago) == 0
    assert sweep_directories(database, installation.home, now()) == 4
    assert directories(installation) == [INDEX, "notes"]
