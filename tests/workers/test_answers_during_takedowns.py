"""A takedown in the middle of an answer: nothing is computed again, and nothing of it is named."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from app.config import Settings
from app.database.engine import Database
from app.database.tables import Job, now
from app.main import create_app
from workers import model_cache, process
from workers.execution import run_next
from workers.tasks import attribution
from workers.tasks.queues import CPU_WORK, GPU_WORK

PICTURE = "ada/ring.png"


@pytest.fixture
def installation(
    service: Settings,
    tiny_folder: Path,
    tiny_model: Path,
    tiny_clip: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Settings]:
    """Settings under which this very process is a worker."""
    roots = {"model_roots": [tiny_model, tiny_clip], "dataset_roots": [tiny_folder]}
    settings = service.model_copy(update={**roots, "shard_size": 12})
    for name, value in settings.to_environment().items():
        monkeypatch.setenv(name, value)
    for cached in (process.settings, process.database):
        cached.cache_clear()
    yield settings
    process.database().close()
    for cached in (process.settings, process.database):
        cached.cache_clear()


@pytest.fixture
def work(installation: Settings, database: Database) -> Callable[[], None]:
    """Do what is due until nothing is."""

    def until_idle() -> None:
        due = select(Job.id).where(Job.status == "queued").limit(1)
        while True:
            with database.read() as session:
                if session.scalar(due.where(Job.due_at <= now())) is None:
                    return
            for works in (GPU_WORK, CPU_WORK):
                run_next(database, installation, works)

    return until_idle


@pytest.fixture
def http(
    installation: Settings,
    work: Callable[[], None],
    tiny_folder: Path,
    tiny_model: Path,
    tiny_clip: Path,
) -> Iterator[TestClient]:
    """The API of an installation with an index."""
    with TestClient(create_app(installation)) as client:
        client.post("/v1/datasets", json={"name": "shapes", "path": str(tiny_folder)})
        paths = {"path": str(tiny_model), "clip_path": str(tiny_clip)}
        client.post("/v1/models", json={"name": "tiny", **paths})
        config = {"timesteps": 1, "projection_dim": 64}
        wanted = {"model": "tiny", "dataset": "shapes", "config": config}
        made = client.post("/v1/indexes", json=wanted)
        work()
        assert client.get(made.headers["Location"]).json()["state"] == "ready"
        yield client


def ask(http: TestClient, folder: Path) -> str:
    """The URL of a question about one of the training images."""
    files = {"image": ((folder / PICTURE).read_bytes())}
    asked = http.post("/v1/attributions", files=files, data={"top_k": "12"})
    assert asked.status_code == 202, asked.text
    return str(asked.headers["Location"])


def take_down(http: TestClient) -> None:
    wanted = {"dataset": "shapes", "keys": [PICTURE]}
    assert http.post("/v1/takedowns", json=wanted).status_code == 202


def answer(http: TestClient, url: str) -> dict[str, Any]:
    shown = http.get(url).json()
    assert (shown["status"], shown["attempt"]) == ("succeeded", 1), shown["problem"]
    result: dict[str, Any] = shown["result"]
    assert PICTURE not in json.dumps(result)
    assert len(result["contributors"]) == 11
    assert sum(row["share"] for row in result["contributors"]) == pytest.approx(1)
    return result


def test_between_the_scores_and_the_answer(
    http: TestClient,
    work: Callable[[], None],
    tiny_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured = attribution.evidence_for

    def meanwhile(index_id: str, method: str) -> list[dict[str, Any]]:
        take_down(http)
        return measured(index_id, method)

    url = ask(http, tiny_folder)
    monkeypatch.setattr(attribution, "evidence_for", meanwhile)
    work()
    assert answer(http, url)["candidates"]["considered"] == 11


def test_between_finding_the_index_and_opening_it(
    http: TestClient,
    work: Callable[[], None],
    database: Database,
    installation: Settings,
    tiny_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found, looked = model_cache._version, []

    def meanwhile(index_id: str) -> Any:
        row = found(index_id)
        if not looked:
            take_down(http)
            run_next(database, installation, CPU_WORK)
        looked.append(row.directory)
        return row

    url = ask(http, tiny_folder)
    monkeypatch.setattr(model_cache, "_version", meanwhile)
    work()
    assert looked == [looked[0], f"{looked[0]}.1"]
    assert answer(http, url)["candidates"] == {
        **{"strategy": "exhaustive", "considered": 11, "corpus": 11, "exhaustive": True}
    }
