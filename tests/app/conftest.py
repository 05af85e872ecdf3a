import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from limited_api import Limited
from PIL import Image
from places import Places, write_model

from app.config import Settings
from app.database.engine import Database
from app.jobs.index_builds import mark_ready
from app.main import create_app


@pytest.fixture
def places(tmp_path: Path) -> Places:
    found = Places(tmp_path / "pictures", tmp_path / "model", tmp_path / "clip")
    for folder in (found.dataset, found.model / "unet", found.clip):
        folder.mkdir(parents=True)
    for number in range(5):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(found.dataset / f"{number}.png")
    rows = [{"file_name": f"{number}.png", "text": f"number {number}"} for number in range(5)]
    (found.dataset / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    write_model(found.model)
    (found.clip / "open_clip_model.safetensors").write_bytes(b"clip")
    return found


@pytest.fixture
def http(service: Settings, places: Places) -> Iterator[TestClient]:
    """The API without workers: what is submitted stays queued."""
    roots = {
        "dataset_roots": [places.dataset.resolve()],
        "model_roots": [places.model.resolve(), places.clip.resolve()],
    }
    limits = {"max_upload_bytes": 100_000, "max_image_pixels": 1_000_000}
    settings = service.model_copy(update=roots | limits)
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def index_id(http: TestClient, places: Places, database: Database) -> str:
    """An active index, declared ready without having been built."""
    http.post("/v1/datasets", json={"name": "pictures", "path": str(places.dataset)})
    paths = {"path": str(places.model), "clip_path": str(places.clip)}
    http.post("/v1/models", json={"name": "tiny", **paths})
    made = http.post("/v1/indexes", json={"model": "tiny", "dataset": "pictures"})
    with database.write() as session:
        mark_ready(session, made.json()["id"], "digest")
    return str(made.json()["id"])


@pytest.fixture
def limited(http: TestClient, index_id: str) -> Iterator[Limited]:
    """The same installation with other limits."""
    settings: Settings = http.app.state.settings  # type: ignore[attr-defined]
    with ExitStack() as stack:

        def make(address: str = "testclient", **limits: Any) -> TestClient:
            application = create_app(settings.model_copy(update=limits))
            client = TestClient(application, raise_server_exceptions=False, client=(address, 50000))
            return stack.enter_context(client)

        yield make
