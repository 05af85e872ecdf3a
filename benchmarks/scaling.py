"""The same index, built by one and by two worker processes of one thread, and with one killed.

Each build has a PostgreSQL, a Redis and a home of its own, the real relay and real workers.  The
clock runs from the request to the index that is ready, workers having started before: loading the
model and the end of the build, which one worker does alone, count.

    python benchmarks/scaling.py
"""

from __future__ import annotations

import argparse
import random
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from installation import PostgreSQL, Redis, kill, own_servers, start, start_worker, wait_until
from report import Report
from sqlalchemy import select

from app.config import Settings
from app.database.engine import Database
from app.database.migrate import upgrade
from app.database.tables import DEFAULT_TENANT, Heartbeat, IndexVersion, Job
from app.datasets.registration import finish, registering
from app.datasets.schemas import DatasetIn
from app.indexes.schemas import IndexIn
from app.indexes.service import build
from app.jobs.kinds import INDEX_SHARD
from app.models.schemas import ModelIn
from app.models.service import register as register_model
from attribution.attributor import Attribution, Attributor
from attribution.denoisers import Denoiser
from attribution.embeddings import ClipEmbedder
from attribution.image_set import decode
from attribution.index.search import Index
from cli.serve import Child
from demo.dataset import build as build_demo_data

ROOT = Path(__file__).parent.parent
WEIGHTS = ROOT / "demo" / "weights"
BUILD_SECONDS = 1800.0
SHARD_SIZE = 16  # images
QUESTIONS = ("twemoji/1f419.png", "openmoji/1f40c.png", "twemoji/1f34e.png")


@dataclass(frozen=True)
class Built:
    """One build: how long it took, which shards were done again, and how it answers."""

    seconds: float
    shards: int
    repeated: int
    answers: list[Attribution]


def built(data: Path, workers: int, timesteps: int, victims: int = 0) -> Built:
    """Build the index, and ask it; ``victims`` workers are killed on the way, and started again."""
    with ExitStack() as stack:
        postgresql, broker, home = stack.enter_context(own_servers())
        settings = _settings(postgresql, broker, home, data)
        database = Database(settings.database_url)
        upgrade(database)
        relay = start(settings, "relay", "workers.relay")
        stack.callback(kill, relay)
        pool = [_worker(settings, number) for number in range(workers)]
        stack.callback(_kill_all, pool)
        wait_until(lambda: _alive(database) == workers, "the workers", BUILD_SECONDS)
        started = time.monotonic()
        index_id = _submit(database, settings, data, timesteps)
        chance = random.Random(0)
        for victim in range(victims):
            part = (victim + 1) / (victims + 1)
            wait_until(lambda: _done(database) >= part, "a part of the build", BUILD_SECONDS)  # noqa: B023
            killed = chance.randrange(workers)
            kill(pool[killed])
            pool[killed] = _worker(settings, killed)
        wait_until(lambda: _state(database, index_id) != "building", "the index", BUILD_SECONDS)
        seconds = time.monotonic() - started
        with database.read() as session:
            index = session.get_one(IndexVersion, index_id)
            attempts = session.scalars(select(Job.attempt).where(Job.kind == INDEX_SHARD)).all()
        database.close()
        if index.state != "ready":
            raise RuntimeError(f"the build failed: {index.problem}")
        answers = _ask(home / index.directory, data)
        return Built(seconds, len(attempts), sum(attempts) - len(attempts), answers)


def _settings(postgresql: PostgreSQL, broker: Redis, home: Path, data: Path) -> Settings:
    return Settings(
        home=home,
        database_url=postgresql.url,
        broker_url=broker.url,
        model_roots=[WEIGHTS],
        dataset_roots=[data],
        shard_size=SHARD_SIZE,
        lease_seconds=5,
        resend_seconds=5,
        heartbeat_seconds=1,
        torch_threads=1,
    )


def _worker(settings: Settings, number: int) -> Child:
    return start_worker(settings, "workers.celery_app", f"worker-{number}", 1)


def _kill_all(workers: list[Child]) -> None:
    for worker in workers:
        kill(worker)


def _alive(database: Database) -> int:
    with database.read() as session:
        query = select(Heartbeat.whose).where(Heartbeat.program == "gpu worker")
        return len(session.scalars(query).all())


def _submit(database: Database, settings: Settings, data: Path, timesteps: int) -> str:
    mine = database.of_tenant(DEFAULT_TENANT)
    finish(registering(mine, settings, DatasetIn(name="emoji", path=str(data))))
    paths = {"path": str(WEIGHTS / "model"), "clip_path": str(WEIGHTS / "clip")}
    register_model(mine, settings, ModelIn(name="demo", **paths))
    wanted = IndexIn(model="demo", dataset="emoji", config={"timesteps": timesteps})
    return build(mine, settings, wanted)[0].id


def _done(database: Database) -> float:
    with database.read() as session:
        states = session.scalars(select(Job.status).where(Job.kind == INDEX_SHARD)).all()
    return states.count("succeeded") / max(1, len(states))


def _state(database: Database, index_id: str) -> str:
    with database.read() as session:
        return session.get_one(IndexVersion, index_id).state


def _ask(directory: Path, data: Path) -> list[Attribution]:
    denoiser = Denoiser.load(WEIGHTS / "model")
    clip = ClipEmbedder(str(WEIGHTS / "clip"))
    attributor = Attributor(Index(directory, verify=True), denoiser, clip)
    return [attributor.attribute(decode((data / key).read_bytes(), key)) for key in QUESTIONS]


def same_rankings(one: Built, other: Built) -> bool:
    """Whether both name the same images in the same order, for every question."""
    pairs = zip(one.answers, other.answers, strict=True)
    return all(
        [a.keys[i] for i in np.argsort(-a.scores, kind="stable")]
        == [b.keys[i] for i in np.argsort(-b.scores, kind="stable")]
        for a, b in pairs
    )


def main() -> None:
    """Build three times and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--timesteps", type=int, default=4)
    parser.add_argument("--out", type=Path, help="otherwise benchmarks/results/scaling.json")
    arguments = parser.parse_args()
    data = ROOT / "benchmarks" / "data" / "demo-emoji"
    if not (data / "metadata.jsonl").is_file():
        build_demo_data(data)
    report = Report("scaling", arguments.out)
    one = built(data, 1, arguments.timesteps)
    two = built(data, 2, arguments.timesteps)
    report.add(
        "one worker process, then two",
        "times faster",
        one.seconds / two.seconds,
        ">= 1.8",
        one.seconds / two.seconds >= 1.8,
        seconds=[round(one.seconds, 1), round(two.seconds, 1)],
        shards=one.shards,
    )
    same = same_rankings(one, two)
    report.add("one worker process, then two", "same rankings", float(same), "1", same)
    victims = 2
    broken = built(data, 2, arguments.timesteps, victims)
    report.add(
        f"two worker processes, {victims} killed",
        "shards done again",
        broken.repeated,
        f"<= {victims}",
        broken.repeated <= victims,
        seconds=round(broken.seconds, 1),
    )
    same = same_rankings(one, broken)
    report.add(f"two worker processes, {victims} killed", "same rankings", float(same), "1", same)
    report.end()


if __name__ == "__main__":
    main()
