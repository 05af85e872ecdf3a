"""Measured scores are kept, shown with the indexes they speak of, and refused where they do not."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest
from fastapi.testclient import TestClient
from places import Places

from app.database.engine import Database
from app.database.tables import IndexVersion
from attribution.index.config import IndexConfig
from attribution.model_directory import model_digest

KNOBS = {"timesteps": 3}


@pytest.fixture
def registered(http: TestClient, places: Places) -> Places:
    paths = {"path": str(places.model), "clip_path": str(places.clip)}
    assert http.post("/v1/models", json={"name": "tiny", **paths}).status_code == 201
    body = {"name": "pictures", "path": str(places.dataset)}
    assert http.post("/v1/datasets", json=body).status_code == 201
    return places


@pytest.fixture
def report(http: TestClient, registered: Places) -> dict[str, Any]:
    """As ``headwater evaluate lds`` writes it."""
    samples = http.get("/v1/datasets/pictures/samples").json()["items"]
    keys = sorted(sample["key"] for sample in samples)
    row = {
        "label": "das",
        "method": "das",
        "query_set": "validation",
        "damping": "label-free",
        "relative_damping": 0.03,
        "lds": 0.41,
        "std_error": 0.012,
        "interval_95": [0.39, 0.43],
        "of_limit": 0.7,
        "curve": [],
        "config": IndexConfig(**KNOBS).to_dict(),
    }
    return {
        "date": "2026-11-24",
        "model_digest": model_digest(registered.model),
        "protocol": {"training": {"trainer": "ddpm"}},
        "subsets": 64,
        "training_seeds": 2,
        "training_images": len(keys),
        "training_keys": sha256("\n".join(keys).encode()).hexdigest(),
        "yardsticks": {"validation": {"rho": 0.4, "limit": 0.75}},
        "results": [row, row | {"damping": "oracle", "lds": 0.43}],
    }


def post(http: TestClient, report: dict[str, Any]) -> Any:
    return http.post("/v1/models/tiny/evidence", json={"dataset": "pictures", "report": report})


def build(http: TestClient, **knobs: Any) -> dict[str, Any]:
    body = {"model": "tiny", "dataset": "pictures", "config": knobs}
    index: dict[str, Any] = http.post("/v1/indexes", json=body).json()
    return index


def test_an_index_carries_what_was_measured_under_its_configuration(
    http: TestClient, report: dict[str, Any]
) -> None:
    before = build(http, **KNOBS)
    assert before["evidence"] == []
    kept = post(http, report)
    assert kept.status_code == 201
    (known,) = http.get(f"/v1/indexes/{before['id']}").json()["evidence"]
    assert known == {
        "method": "das",
        "query_set": "validation",
        "lds": 0.41,
        "std_error": 0.012,
        "of_limit": 0.7,
        "rho": 0.4,
        "subsets": 64,
        "training_seeds": 2,
        "measured_on": "2026-11-24",
        "protocol": {"training": {"trainer": "ddpm"}},
    }
    assert kept.json() == http.get("/v1/models/tiny/evidence").json() == [known]
    assert build(http, timesteps=4)["evidence"] == []
    listed = {row["id"]: row["evidence"] for row in http.get("/v1/indexes").json()["items"]}
    assert listed[before["id"]] == [known]


def test_a_newer_report_takes_the_place_of_the_older(
    http: TestClient, report: dict[str, Any]
) -> None:
    post(http, report)
    post(http, report | {"date": "2026-12-01"})
    (known,) = http.get("/v1/models/tiny/evidence").json()
    assert known["measured_on"] == "2026-12-01"


def test_without_seeds_to_compare_there_is_no_rho(http: TestClient, report: dict[str, Any]) -> None:
    report["results"][0]["of_limit"] = None
    (known,) = post(http, report | {"yardsticks": {"validation": None}}).json()
    assert known["rho"] is None
    assert known["of_limit"] is None


@pytest.mark.parametrize(
    ("fault", "status", "slug"),
    [
        ({"model_digest": "0" * 64}, 409, "evidence-of-another-model"),
        ({"training_keys": "0" * 64}, 409, "evidence-of-other-images"),
    ],
)
def test_a_report_of_something_else_is_refused(
    http: TestClient, report: dict[str, Any], fault: dict[str, Any], status: int, slug: str
) -> None:
    refused = post(http, report | fault)
    assert refused.status_code == status
    assert refused.json()["type"].endswith(slug)
    assert http.get("/v1/models/tiny/evidence").json() == []


@pytest.mark.parametrize(
    "fault",
    [
        {"lds": 41.0},
        {"std_error": -1},
        {"method": "guess"},
        {"config": {"timesteps": 0}},
        {"config": {"colour": 1}},
        {"damping": "best"},
    ],
    ids=str,
)
def test_rows_that_cannot_be_are_refused(
    http: TestClient, report: dict[str, Any], fault: dict[str, Any]
) -> None:
    report["results"][0] |= fault
    refused = post(http, report)
    assert refused.status_code == 422
    assert refused.headers["content-type"] == "application/problem+json"


def test_a_model_that_nobody_registered_has_none(http: TestClient) -> None:
    assert http.get("/v1/models/nobody/evidence").status_code == 404


def test_two_datasets_of_one_model_keep_their_own(
    http: TestClient, database: Database, report: dict[str, Any], places: Places
) -> None:
    """The same configuration over other images is another index, without this evidence."""
    post(http, report)
    (places.dataset / "metadata.jsonl").write_text('{"file_name": "1.png", "text": ""}')
    http.post("/v1/datasets", json={"name": "other", "path": str(places.dataset)})
    body = {"model": "tiny", "dataset": "other", "config": KNOBS}
    index = http.post("/v1/indexes", json=body).json()
    assert index["evidence"] == []
    with database.read() as session:
        assert session.get_one(IndexVersion, index["id"]).config_digest
