"""Asking, listing, polling and canceling over HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from app.attributions.routes import wait_seconds
from app.conditional import matches
from app.config import Settings
from app.database.engine import Database
from app.database.tables import Job, OutboxMessage
from app.main import create_app


def ask(http: TestClient, prompt: str = "a cat", **fields: object) -> str:
    asked = http.post("/v1/attributions", json={"prompt": prompt, **fields})
    assert asked.status_code == 202, asked.text
    return str(asked.json()["id"])


def test_a_question_is_accepted(http: TestClient, database: Database, index_id: str) -> None:
    asked = http.post("/v1/attributions", json={"prompt": "a cat", "seed": 7})
    assert asked.status_code == 202
    assert asked.headers["Retry-After"]
    body = asked.json()
    assert asked.headers["Location"] == body["urls"]["self"] == f"/v1/attributions/{body['id']}"
    assert body["id"].startswith("atr_")
    assert (body["status"], body["index"]) == ("queued", index_id)
    with database.read() as session:
        messages = select(OutboxMessage.job_id).where(OutboxMessage.job_id == body["id"])
        assert session.scalars(messages).all() == [body["id"]]
    assert http.get(body["urls"]["image"]).status_code == 404


@pytest.mark.usefixtures("index_id")
def test_the_broker_may_be_down(http: TestClient, database: Database) -> None:
    """A job is its rows; ``test_outages`` sees them done when the broker is back."""
    settings: Settings = http.app.state.settings  # type: ignore[attr-defined]
    nobody = {"broker_url": "redis://127.0.0.1:1/0", "rate_limit": "1000/second"}
    with TestClient(create_app(settings.model_copy(update=nobody))) as alone:
        asked = ask(alone)
    with database.read() as session:
        assert asked in session.scalars(select(OutboxMessage.job_id)).all()


@pytest.mark.usefixtures("index_id")
def test_polling_with_an_etag(http: TestClient, database: Database) -> None:
    asked = ask(http)
    first = http.get(f"/v1/attributions/{asked}")
    assert first.headers["Retry-After"]
    known = {"If-None-Match": first.headers["ETag"]}
    unchanged = http.get(f"/v1/attributions/{asked}", headers=known)
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert unchanged.headers["ETag"] == first.headers["ETag"]
    with database.write() as session:
        session.execute(update(Job).values(status="succeeded", result={}))
    changed = http.get(f"/v1/attributions/{asked}", headers=known)
    assert changed.status_code == 200
    assert "Retry-After" not in changed.headers


@pytest.mark.usefixtures("index_id")
def test_pages_hold_each_attribution_once(http: TestClient) -> None:
    asked = [ask(http, f"cat {number}") for number in range(5)]
    canceled = http.post(f"/v1/attributions/{asked[2]}/cancel")
    assert canceled.json()["status"] == "canceled"

    def walk(**filters: str) -> Iterator[str]:
        cursor = None
        while True:
            page = {"limit": 2} | filters | ({"cursor": cursor} if cursor else {})
            found = http.get("/v1/attributions", params=page).json()
            assert len(found["items"]) <= 2
            yield from (item["id"] for item in found["items"])
            if not (cursor := found["next_cursor"]):
                return

    listed = list(walk())
    assert sorted(listed) == sorted(asked)
    assert listed == sorted(listed, reverse=True)
    assert list(walk(status="canceled")) == [asked[2]]


@pytest.mark.usefixtures("index_id")
def test_canceling(http: TestClient, database: Database) -> None:
    asked = ask(http)
    for _ in range(2):
        canceled = http.post(f"/v1/attributions/{asked}/cancel")
        assert (canceled.status_code, canceled.json()["status"]) == (200, "canceled")
    ended = ask(http)
    with database.write() as session:
        session.execute(update(Job).where(Job.id == ended).values(status="succeeded"))
    assert http.post(f"/v1/attributions/{ended}/cancel").status_code == 409


@pytest.mark.usefixtures("index_id")
def test_waiting_ends_in_time(http: TestClient) -> None:
    waited = http.post("/v1/attributions", json={"prompt": "a cat"}, headers={"Prefer": "wait=1"})
    assert (waited.status_code, waited.headers["Preference-Applied"]) == (202, "wait=1")


def test_without_an_active_index(http: TestClient) -> None:
    refused = http.post("/v1/attributions", json={"prompt": "a cat"})
    assert (refused.status_code, refused.json()["title"]) == (409, "No index is active")


@pytest.mark.usefixtures("index_id")
def test_every_error_is_a_problem(http: TestClient) -> None:
    refused = [
        (404, http.get("/v1/nowhere")),
        (404, http.get("/v1/attributions/atr_unknown")),
        (404, http.get("/v1/indexes/idx_unknown")),
        (404, http.get("/v1/datasets/unknown/samples")),
        (404, http.get("/v1/datasets/pictures/samples/unknown.png/image")),
        (404, http.post("/v1/attributions", json={"prompt": "a", "index": "idx_unknown"})),
        (405, http.delete("/v1/models")),
        (415, http.post("/v1/attributions", content=b"x", headers={"Content-Type": "text/plain"})),
        (422, http.post("/v1/attributions", json={"prompt": ""})),
        (422, http.post("/v1/attributions", json=["no object"])),
        (422, http.post("/v1/attributions", files={"caption": (None, "no picture")})),
        (422, http.get("/v1/attributions", params={"status": "lost"})),
        (422, http.get("/v1/attributions", params={"limit": 0})),
        (422, http.post("/v1/models", json={"name": "x"})),
    ]
    for status, answer in refused:
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert {"type", "title", "status"} <= answer.json().keys()


@pytest.mark.usefixtures("index_id")
def test_an_unexpected_error_is_a_problem_that_tells_nothing(
    http: TestClient, database: Database
) -> None:
    with database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE samples RENAME TO samples_away")
    try:
        broken = http.get("/v1/datasets/pictures/samples")
    finally:
        with database.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE samples_away RENAME TO samples")
    assert broken.status_code == 500
    assert broken.headers["content-type"] == "application/problem+json"
    assert "samples_away" not in broken.text
    assert "sql" not in broken.text.lower()


def test_preferences_and_tags() -> None:
    assert wait_seconds(None) == 0
    assert wait_seconds("respond-async, wait=10") == 10
    assert wait_seconds("wait=600") == 60
    assert wait_seconds("await=5") == 0
    assert matches('W/"a", "b"', '"a"')
    assert matches("*", '"a"')
    assert not matches('"b"', '"a"')
