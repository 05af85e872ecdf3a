"""Taking down over HTTP: what is refused, what is masked at once, and who cannot see it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi.testclient import TestClient
from places import Places
from sqlalchemy import select, update

from app.config import Settings
from app.database.engine import Database
from app.database.tables import DEFAULT_TENANT, Dataset, IndexVersion, Job, Sample, Tenant
from app.datasets import service as datasets
from app.datasets.registration import finish, registering
from app.datasets.schemas import DatasetIn
from app.jobs.kinds import TAKEDOWN
from app.takedowns.redaction import redacted
from app.uploads import Upload, check_upload


def register(http: TestClient, places: Places, name: str = "pictures") -> dict[str, object]:
    rows = [
        {
            "file_name": f"{n}.png",
            "text": f"number {n}",
            "creator": "Ada" if n < 3 else "Bob",
            "licence": "CC-BY-4.0",
        }
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
    for part in ("", "/image", "/thumbnail"):
        assert http.get(f"/v1/datasets/pictures/samples/0.png{part}").status_code == 410
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
    found = http.get("/v1/samples?key=4.png").json()["items"]
    assert found == opted_out
    one = http.get(f"/v1/datasets/pictures/samples/{found[0]['key']}")
    assert one.json() == found[0]
    assert http.get("/v1/datasets/pictures/samples/none.png").status_code == 404
    assert http.get("/v1/samples?cursor=nonsense").status_code == 422
    assert http.get("/v1/samples?dataset=none").status_code == 404
    (ada, bob) = http.get("/v1/contributors").json()["items"]
    assert (ada["creator"], ada["images"], ada["licences"]) == ("Ada", 3, ["CC-BY-4.0"])
    assert ada["datasets"] == [dataset["id"]]
    assert (bob["creator"], bob["images"], bob["opted_out"]) == ("Bob", 2, 1)


def test_an_old_answer_loses_what_it_names() -> None:
    rows = [{"key": key, "share": share} for key, share in (("a", 0.5), ("b", 0.3), ("c", 0.1))]
    owners = [{"creator": creator, "share": 0.3} for creator in ("Ada", "Bob", "unknown")]
    result = {
        "contributors": rows,
        "listed_share": 0.9,
        "by_creator": owners,
        "near_duplicates": [["a", "b"], ["b", "c", "d"]],
    }
    smaller = redacted(result, {"a"}, {"Ada", "Bob", None})
    assert smaller is not None
    assert [row["key"] for row in smaller["contributors"]] == ["b", "c"]
    assert smaller["listed_share"] == pytest.approx(0.4)
    assert smaller["near_duplicates"] == [["b", "c", "d"]]
    assert (smaller["by_creator"], smaller["redacted"]) == (owners, 1)
    again = redacted(smaller, {"a", "b"}, {"Bob"})
    assert again is not None
    assert ([row["creator"] for row in again["by_creator"]], again["redacted"]) == (
        ["Bob", "unknown"],
        2,
    )
    assert redacted(result, {"z"}, {"Ada", "Bob"}) is None


def test_the_same_content_goes_wherever_it_is(
    http: TestClient, places: Places, database: Database
) -> None:
    """Under another key of the dataset, and in another dataset; what is alike elsewhere stays."""
    (places.dataset / "metadata.jsonl").unlink()
    copy = places.dataset / "copy.png"
    copy.write_bytes((places.dataset / "0.png").read_bytes())
    for name in ("first", "second"):
        made = http.post("/v1/datasets", json={"name": name, "path": str(places.dataset)})
        assert (made.status_code, made.json()["sample_count"]) == (201, 6)
    with database.write() as session:
        session.add(Tenant(id="other"))
        session.flush()
        theirs = Dataset(
            **{"id": "ds_other", "tenant_id": "other", "name": "theirs", "path": "/theirs"},
            **{"digest": "", "sample_count": 1},
        )
        session.add(theirs)
        session.flush()
        digest = session.scalars(select(Sample.digest).where(Sample.key == "0.png").limit(1)).one()
        session.add(Sample(dataset_id="ds_other", key="0.png", digest=digest))
    accepted = http.post("/v1/takedowns", json={"dataset": "first", "keys": ["0.png"]})
    assert (accepted.status_code, accepted.json()["images"]) == (202, 4)
    for name in ("first", "second"):
        assert http.get(f"/v1/datasets/{name}").json()["sample_count"] == 4
        for key in ("0.png", "copy.png"):
            assert http.get(f"/v1/datasets/{name}/samples/{key}/image").status_code == 410
    with database.read() as session:
        assert session.get(Sample, ("ds_other", "0.png")) is not None
        assert session.get_one(Dataset, "ds_other").revision == 0

    # Asked again: it is done.  And contents of two takedowns are left out of a third dataset.
    again = http.post("/v1/takedowns", json={"dataset": "first", "keys": ["0.png", "1.png"]})
    told = "1 of the keys were taken down already"
    assert (again.status_code, again.json()["detail"]) == (410, told)
    assert http.post("/v1/takedowns", json={"dataset": "first", "keys": ["1.png"]}).is_success
    third = http.post("/v1/datasets", json={"name": "third", "path": str(places.dataset)})
    assert third.json()["sample_count"] == 3
    assert http.get("/v1/datasets/third/samples/copy.png/image").status_code == 410


def test_a_registration_and_a_takedown_take_turns(
    service: Settings, http: TestClient, places: Places, database: Database
) -> None:
    """However they meet, no dataset has a content that was taken down."""
    register(http, places)

    def registration(number: int) -> bool:
        wanted = DatasetIn(name=f"again {number}", path=str(places.dataset))
        settings = service.model_copy(update={"dataset_roots": [places.dataset.resolve()]})
        tenant = database.of_tenant(DEFAULT_TENANT)
        return finish(registering(tenant, settings, wanted)).new

    with ThreadPoolExecutor(5) as pool:
        made = [pool.submit(registration, number) for number in range(4)]
        taken = {"dataset": "pictures", "creator": "Ada"}
        assert http.post("/v1/takedowns", json=taken).status_code == 202
        assert all(one.result() for one in made)
    listed = http.get("/v1/datasets").json()["items"]
    assert [row["sample_count"] for row in listed] == [2] * 5
    assert {row["creator"] for row in http.get("/v1/samples").json()["items"]} == {"Bob"}


def test_a_failed_takedown_is_tried_again(
    http: TestClient, places: Places, database: Database
) -> None:
    register(http, places)
    made = http.post("/v1/takedowns", json={"dataset": "pictures", "keys": ["0.png"]})
    retry = f"{made.headers['Location']}/retry"
    refused = http.post(retry)
    assert (refused.status_code, refused.json()["detail"]) == (409, "it is queued")
    with database.write() as session:
        session.execute(update(Job).where(Job.kind == TAKEDOWN).values(status="failed"))
    again = http.post(retry)
    assert (again.status_code, again.json()["status"]) == (202, "queued")
    assert again.json()["id"] == made.json()["id"]
    assert http.post("/v1/takedowns/tkd_none/retry").status_code == 404


def test_a_thumbnail_that_is_made_during_a_takedown_does_not_stay(
    http: TestClient, places: Places, service: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(http, places)

    def meanwhile(content: bytes, settings: Settings) -> Upload:
        wanted = {"dataset": "pictures", "keys": ["0.png"]}
        assert http.post("/v1/takedowns", json=wanted).status_code == 202
        return check_upload(content, settings)

    monkeypatch.setattr(datasets, "check_upload", meanwhile)
    refused = http.get("/v1/datasets/pictures/samples/0.png/thumbnail")
    assert refused.status_code == 410
    assert list((service.home / "thumbnails").rglob("*.png")) == []


def test_a_dataset_without_images_is_not_indexed(http: TestClient, places: Places) -> None:
    register(http, places)
    for creator in ("Ada", "Bob"):
        wanted = {"dataset": "pictures", "creator": creator}
        assert http.post("/v1/takedowns", json=wanted).status_code == 202
    paths = {"path": str(places.model), "clip_path": str(places.clip)}
    http.post("/v1/models", json={"name": "tiny", **paths})
    refused = http.post("/v1/indexes", json={"model": "tiny", "dataset": "pictures"})
    assert (refused.status_code, refused.json()["type"]) == (
        409,
        "urn:headwater:problem:dataset-empty",
    )


def test_an_index_that_is_ready_stays_so(
    http: TestClient, database: Database, index_id: str
) -> None:
    accepted = http.post("/v1/takedowns", json={"dataset": "pictures", "keys": ["0.png"]})
    assert accepted.status_code == 202
    with database.write() as session:
        assert session.get_one(IndexVersion, index_id).state == "ready"
        session.execute(update(Job).values(status="succeeded"))
    assert http.get(accepted.headers["Location"]).json()["status"] == "succeeded"
