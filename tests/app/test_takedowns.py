"""Taking down over HTTP: what is refused, what is masked at once, and who cannot see it."""

from __future__ import annotations

import json

import pytest
from fastapi.testclient import TestClient
from places import Places
from sqlalchemy import select, update

from app.database.engine import Database
from app.database.tables import IndexVersion, Job
from app.takedowns.redaction import redacted


def register(http: TestClient, places: Places, name: str = "pictures") -> dict[str, object]:
    rows = [
        {"file_name": f"{n}.png", "creator": "Ada" if n < 3 else "Bob", "licence": "CC-BY-4.0"}
        for n in range(5)
    ]
    rows[4]["opt_out"] = True
    (places.dataset / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    made = http.post("/v1/datasets", json={"name": name, "path": str(places.dataset)})
    assert made.status_code == 201, made.text
    found: dict[str, object] = made.json()
    return found


def test_a_creators_images_leave_the_catalogue_and_do_not_come_back(
    http: TestClient, places: Places
) -> None:
    register(http, places)
    accepted = http.post("/v1/takedowns", json={"dataset": "pictures", "creator": "Ada"})
    assert (accepted.status_code, accepted.json()["images"]) == (202, 3)
    assert http.get(accepted.headers["Location"]).json() == accepted.json()
    assert http.get("/v1/datasets/pictures").json()["sample_count"] == 2
    assert [row["creator"] for row in http.get("/v1/contributors").json()["items"]] == ["Bob"]
    assert http.get("/v1/samples?creator=Ada").json()["items"] == []
    assert http.get("/v1/datasets/pictures/samples/0.png/image").status_code == 410
    again = http.post("/v1/takedowns", json={"dataset": "pictures", "creator": "Ada"})
    assert again.status_code == 404

    # The same folder under another name: the same content is left out.
    second = register(http, places, "again")
    assert second["sample_count"] == 2
    assert http.get("/v1/datasets/again/samples/1.png/image").status_code == 410


@pytest.mark.parametrize(
    ("wanted", "status"),
    [
        ({"dataset": "pictures"}, 422),
        ({"dataset": "pictures", "keys": ["0.png"], "creator": "Ada"}, 422),
        ({"dataset": "pictures", "keys": []}, 422),
        ({"dataset": "pictures", "keys": ["0.png", "nine.png"]}, 404),
        ({"dataset": "none", "creator": "Ada"}, 404),
        ({"dataset": "pictures", "creator": "Nobody"}, 404),
    ],
)
def test_bad_requests_change_nothing(
    http: TestClient, places: Places, wanted: dict[str, object], status: int
) -> None:
    register(http, places)
    refused = http.post("/v1/takedowns", json=wanted)
    assert refused.status_code == status
    assert http.get("/v1/datasets/pictures").json()["sample_count"] == 5
    assert http.get("/v1/takedowns").json()["items"] == []


def test_a_build_under_way_is_ended(http: TestClient, places: Places, database: Database) -> None:
    register(http, places)
    paths = {"path": str(places.model), "clip_path": str(places.clip)}
    http.post("/v1/models", json={"name": "tiny", **paths})
    index = http.post("/v1/indexes", json={"model": "tiny", "dataset": "pictures"}).json()["id"]
    http.post("/v1/takedowns", json={"dataset": "pictures", "keys": ["0.png"]})
    shown = http.get(f"/v1/indexes/{index}").json()
    assert (shown["state"], shown["problem"]["title"]) == (
        "failed",
        "Images were taken down meanwhile",
    )
    with database.read() as session:
        states = session.scalars(select(Job.status).where(Job.index_id == index)).all()
    assert set(states) == {"canceled"}
    rebuilt = http.post("/v1/indexes", json={"model": "tiny", "dataset": "pictures"})
    assert rebuilt.status_code == 202


def test_samples_are_found_by_what_they_are(http: TestClient, places: Places) -> None:
    dataset = register(http, places)
    search = "/v1/samples?limit=2"
    pages, cursor = [], ""
    while True:
        page = http.get(f"{search}{cursor}").json()
        pages += [row["key"] for row in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert pages == [f"{n}.png" for n in range(5)]
    opted_out = http.get("/v1/samples?opted_out=true").json()["items"]
    assert [(row["key"], row["opt_out"]) for row in opted_out] == [
        ("4.png", {"declared": "notAllowed"})
    ]
    assert opted_out[0]["dataset"] == dataset["id"]
    assert http.get(opted_out[0]["thumbnail"]).headers["content-type"] == "image/png"
    assert http.get("/v1/samples?cursor=nonsense").status_code == 422
    assert http.get("/v1/samples?dataset=none").status_code == 404
    (ada, bob) = http.get("/v1/contributors").json()["items"]
    assert (ada["creator"], ada["images"], ada["licences"]) == ("Ada", 3, ["CC-BY-4.0"])
    assert (bob["creator"], bob["images"], bob["opted_out"]) == ("Bob", 2, 1)


def test_an_old_answer_loses_what_it_names() -> None:
    rows = [{"key": key, "share": share} for key, share in (("a", 0.5), ("b", 0.3), ("c", 0.1))]
    result = {
        "contributors": rows,
        "listed_share": 0.9,
        "by_creator": [{"creator": "Ada", "share": 0.6}, {"creator": "Bob", "share": 0.4}],
        "near_duplicates": [["a", "b"], ["b", "c", "d"]],
    }
    smaller = redacted(result, {"a"}, None)
    assert smaller is not None
    assert [row["key"] for row in smaller["contributors"]] == ["b", "c"]
    assert smaller["listed_share"] == pytest.approx(0.4)
    assert smaller["near_duplicates"] == [["b", "c", "d"]]
    assert (len(smaller["by_creator"]), smaller["redacted"]) == (2, 1)
    again = redacted(smaller, {"a", "b"}, "Ada")
    assert again is not None
    assert ([row["creator"] for row in again["by_creator"]], again["redacted"]) == (["Bob"], 2)
    assert redacted(result, {"z"}, None) is None


def test_an_index_that_is_ready_stays_so(
    http: TestClient, database: Database, index_id: str
) -> None:
    accepted = http.post("/v1/takedowns", json={"dataset": "pictures", "keys": ["0.png"]})
    assert accepted.status_code == 202
    with database.write() as session:
        assert session.get_one(IndexVersion, index_id).state == "ready"
        session.execute(update(Job).values(status="succeeded"))
    assert http.get(accepted.headers["Location"]).json()["status"] == "succeeded"
