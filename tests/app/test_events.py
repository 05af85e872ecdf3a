"""The event stream: every state once and in order, also for a client that comes back."""

from __future__ import annotations

import json
import threading
import time

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from app.config import Settings
from app.database.engine import Database
from app.database.tables import Job, JobEvent
from app.jobs.claims import claim, report_progress, retry_or_fail, succeed
from app.jobs.recovery import recover_expired
from app.problems import problem_body

Event = tuple[int, str, dict[str, object]]


def ask(http: TestClient) -> str:
    return str(http.post("/v1/attributions", json={"prompt": "a cat"}).json()["id"])


def parsed(body: str) -> list[Event]:
    found = []
    for block in body.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
        found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return found


def read(http: TestClient, attribution: str, after: int | None = None) -> list[Event]:
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    answer = http.get(f"/v1/attributions/{attribution}/events", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    return parsed(answer.text)


def work(service: Settings, database: Database, attribution: str) -> None:
    """Two attempts: the first one fails."""
    for attempt in (1, 2):
        with database.write() as session:
            held = claim(session, service, attribution)
        assert held is not None
        with database.write() as session:
            report_progress(session, held, "features", 0.5)
        with database.write() as session:
            if attempt == 1:
                retry_or_fail(session, service, held, problem_body(500, "job-failed", "It failed"))
            else:
                succeed(session, held, {"contributors": []})


@pytest.mark.usefixtures("index_id")
def test_every_state_comes_once_and_in_order(
    http: TestClient, service: Settings, database: Database
) -> None:
    attribution = ask(http)
    work(service, database, attribution)
    events = read(http, attribution)
    seen = [(data["status"], data["attempt"], data["progress"]["stage"]) for *_, data in events]  # type: ignore[index]
    assert seen == [
        ("queued", 0, None),
        ("running", 1, None),
        ("running", 1, "features"),
        ("queued", 1, "features"),
        ("running", 2, None),
        ("running", 2, "features"),
        ("succeeded", 2, "features"),
    ]
    assert [name for _, name, _ in events] == ["progress"] * 6 + ["end"]
    assert events[-1][2]["progress"] == {"stage": "features", "fraction": 1.0}
    numbers = [number for number, *_ in events]
    assert numbers == sorted(set(numbers))


@pytest.mark.usefixtures("index_id")
def test_who_comes_back_gets_what_was_missed(
    http: TestClient, service: Settings, database: Database
) -> None:
    attribution = ask(http)
    work(service, database, attribution)
    events = read(http, attribution)
    for place in range(len(events) - 1):
        assert read(http, attribution, after=events[place][0]) == events[place + 1 :]
    headers = {"Last-Event-ID": str(events[-1][0])}
    over = http.get(f"/v1/attributions/{attribution}/events", headers=headers)
    assert (over.status_code, over.content) == (204, b"")


@pytest.mark.usefixtures("index_id")
def test_events_arrive_while_they_happen(http: TestClient) -> None:
    attribution = ask(http)
    bodies: list[list[Event]] = []
    reader = threading.Thread(target=lambda: bodies.append(read(http, attribution)))
    reader.start()
    time.sleep(0.5)
    assert reader.is_alive(), "the stream stays open while the attribution is queued"
    http.post(f"/v1/attributions/{attribution}/cancel")
    reader.join(5)
    assert [data["status"] for *_, data in bodies[0]] == ["queued", "canceled"]


@pytest.mark.usefixtures("index_id")
def test_the_stream_of_a_deleted_attribution_ends(http: TestClient) -> None:
    attribution = ask(http)
    bodies: list[list[Event]] = []
    reader = threading.Thread(target=lambda: bodies.append(read(http, attribution)))
    reader.start()
    time.sleep(0.5)
    http.delete(f"/v1/attributions/{attribution}")
    reader.join(5)
    assert [data["status"] for *_, data in bodies[0]] == ["queued"]


@pytest.mark.usefixtures("index_id")
def test_a_dead_workers_job_says_so(
    http: TestClient, service: Settings, database: Database
) -> None:
    attribution = ask(http)
    quick = service.model_copy(update={"lease_seconds": 0.001})
    with database.write() as session:
        assert claim(session, quick, attribution)
    time.sleep(0.01)
    with database.write() as session:
        assert recover_expired(session, quick) == 1
    http.post(f"/v1/attributions/{attribution}/cancel")
    states = [(data["status"], data["attempt"]) for *_, data in read(http, attribution)]
    assert states == [("queued", 0), ("running", 1), ("queued", 1), ("canceled", 1)]


@pytest.mark.usefixtures("index_id")
@pytest.mark.parametrize("last", ["-1", "x", "1e3"])
def test_a_wrong_number_is_refused(http: TestClient, last: str) -> None:
    attribution = ask(http)
    path = f"/v1/attributions/{attribution}/events"
    assert http.get(path, headers={"Last-Event-ID": last}).status_code == 422


def test_builds_leave_no_events(http: TestClient, database: Database, index_id: str) -> None:
    with database.read() as session:
        jobs = session.scalars(select(Job.id)).all()
        assert len(jobs) >= 1, index_id
        assert session.scalars(select(JobEvent.id)).all() == []
