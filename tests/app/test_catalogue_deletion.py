"""What nothing needs can be deleted; what something needs is kept, and the refusal says by what."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from places import Places
from sqlalchemy import func, select, update

from app.config import Settings
from app.database.engine import Database
from app.database.tables import Evidence, IndexVersion, Job, Sample, now
from app.jobs.index_builds import mark_ready
from app.jobs.kinds import ATTRIBUTION
from app.storage import Thumbnails


@pytest.fixture
def files(service: Settings, index_id: str) -> Path:
    """The directory of the active index, and one that a takedown has replaced."""
    directory = service.home / "indexes" / index_id
    for path in (directory, directory.with_name(f"{index_id}.1")):
        path.mkdir(parents=True)
        (path / "directions.bin").write_bytes(b"rows")
    return directory


def refusal(http: TestClient, path: str) -> str:
    answer = http.delete(path)
    assert (answer.status_code, answer.headers["content-type"]) == (409, "application/problem+json")
    return str(answer.json()["detail"])


def test_an_index_goes_with_its_files_and_jobs(
    http: TestClient, database: Database, index_id: str, files: Path
) -> None:
    version = f"/v1/indexes/{index_id}"
    assert refusal(http, version).startswith("it is active")
    idle = http.post(f"{version}/deactivate")
    assert (idle.status_code, idle.json()["active"]) == (200, False)
    unasked = http.post("/v1/attributions", json={"prompt": "a cat"})
    assert unasked.json()["type"] == "urn:headwater:problem:no-active-index"

    asked = http.post("/v1/attributions", json={"prompt": "a cat", "index": index_id}).json()
    assert refusal(http, version) == "1 attributions were asked of it: delete them first"
    assert http.delete(asked["urls"]["self"]).status_code == 204
    assert http.delete(version).status_code == 204
    assert http.get(version).status_code == http.delete(version).status_code == 404
    assert http.get(asked["urls"]["self"]).status_code == 410  # still known to have been
    assert list(files.parent.iterdir()) == []
    with database.read() as session:
        assert session.scalars(select(Job.kind)).all() == [ATTRIBUTION]


def test_a_build_under_way_is_not_deleted_and_a_failed_one_is(
    http: TestClient, database: Database, index_id: str
) -> None:
    wanted = {"model": "tiny", "dataset": "pictures", "config": {"timesteps": 5}}
    building = http.post("/v1/indexes", json=wanted).headers["Location"]
    assert refusal(http, building) == "it is being built"
    with database.write() as session:
        session.execute(
            update(IndexVersion).where(IndexVersion.state == "building").values(state="failed")
        )
    assert http.delete(building).status_code == 204
    assert [row["id"] for row in http.get("/v1/indexes").json()["items"]] == [index_id]


def test_rolling_back_goes_to_an_earlier_version(
    http: TestClient, database: Database, index_id: str
) -> None:
    wanted = {"model": "tiny", "dataset": "pictures", "config": {"timesteps": 5}}
    newer = http.post("/v1/indexes", json=wanted).json()["id"]
    with database.write() as session:
        mark_ready(session, newer, "digest")
    assert http.get(f"/v1/indexes/{newer}").json()["active"]
    assert http.post(f"/v1/indexes/{index_id}/activate").json()["active"]
    assert not http.get(f"/v1/indexes/{newer}").json()["active"]
    assert http.delete(f"/v1/indexes/{newer}").status_code == 204


def test_a_model_and_a_dataset_go_once_no_index_needs_them(
    http: TestClient, service: Settings, database: Database, places: Places, index_id: str
) -> None:
    for needed in ("/v1/models/tiny", "/v1/datasets/pictures"):
        assert "indexes" in refusal(http, needed)
    http.post(f"/v1/indexes/{index_id}/deactivate")
    assert http.delete(f"/v1/indexes/{index_id}").status_code == 204
    thumbnail = http.get("/v1/datasets/pictures/samples/0.png/thumbnail")
    assert thumbnail.status_code == 200
    with database.write() as session:
        model, dataset = (
            http.get(f"/v1/{one}").json()["id"] for one in ("models/tiny", "datasets/pictures")
        )
        session.add(
            Evidence(
                **{"id": "evd_1", "model_id": model, "dataset_id": dataset, "config_digest": ""},
                **{"method": "das", "query_set": "validation", "lds": 0.4, "std_error": 0.1},
                **{"subsets": 1, "training_seeds": 1, "measured_on": now().date(), "protocol": {}},
            )
        )
    assert http.delete("/v1/models/tiny").status_code == 204
    assert http.delete("/v1/datasets/pictures").status_code == 204
    assert http.get("/v1/models/tiny").status_code == 404
    assert http.get("/v1/datasets/pictures").status_code == 404
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Sample)) == 0
        assert session.scalar(select(func.count()).select_from(Evidence)) == 0
    assert list(Thumbnails(service.home).directory.rglob("*.png")) == []
    assert (places.dataset / "0.png").is_file()  # the operator's
    again = http.post("/v1/datasets", json={"name": "pictures", "path": str(places.dataset)})
    assert again.status_code == 201


def test_a_dataset_with_takedowns_stays(http: TestClient, places: Places) -> None:
    http.post("/v1/datasets", json={"name": "pictures", "path": str(places.dataset)})
    http.post("/v1/takedowns", json={"dataset": "pictures", "keys": ["0.png"]})
    assert refusal(http, "/v1/datasets/pictures") == "it has takedowns"
    assert http.get("/v1/datasets/pictures").json()["sample_count"] == 4


@pytest.mark.parametrize("path", ["indexes/idx_none", "models/none", "datasets/none"])
def test_what_is_unknown_is_not_found(http: TestClient, path: str) -> None:
    assert http.delete(f"/v1/{path}").status_code == 404
