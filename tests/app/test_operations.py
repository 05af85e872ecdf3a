"""What an operator sees of a server: request ids, metrics, readiness, and what is forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from pydantic import ValidationError
from sqlalchemy import select, update

from app.attributions.retention import forget_old_attributions
from app.config import Settings
from app.database.engine import Database
from app.database.tables import Heartbeat, IndexVersion, Job, JobEvent, Measure, now
from app.heartbeats import PROGRAMS, beat
from app.jobs.claims import claim
from app.jobs.measures import add_stages, count
from app.main import create_app
from app.storage import Exports
from workers.reaper import reap


def samples(http: TestClient) -> dict[tuple[str, ...], float]:
    """Every figure of /metrics by its name and labels."""
    text = http.get("/metrics").text
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_request_has_an_id_that_its_job_keeps(
    http: TestClient, database: Database, index_id: str
) -> None:
    sent = {"X-Request-ID": "from-the-client_1"}
    asked = http.post("/v1/attributions", json={"prompt": "a cat"}, headers=sent)
    assert asked.headers["X-Request-ID"] == "from-the-client_1"
    with database.read() as session:
        assert session.get_one(Job, asked.json()["id"]).request_id == "from-the-client_1"
    for strange in ("", "two words", "x" * 65, 'a"b'):
        made = http.get("/livez", headers={"X-Request-ID": strange}).headers["X-Request-ID"]
        assert made != strange
        assert len(made) == 32


def test_an_unexpected_error_is_told_with_its_request(
    service: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    api = create_app(service)

    @api.get("/broken/{key}")
    def broken(key: str) -> None:
        raise ValueError(key)

    @api.get("/half")
    def half() -> StreamingResponse:
        def content() -> Iterator[str]:
            yield "half"
            raise ValueError("only half")

        return StreamingResponse(content())

    with TestClient(api) as http, caplog.at_level("INFO"):
        answer = http.get("/broken/private.png", headers={"X-Request-ID": "r-1"})
        assert (answer.status_code, answer.headers["X-Request-ID"]) == (500, "r-1")
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["type"] == "urn:headwater:problem:internal-error"
        assert samples(http)["headwater_http_requests_total", "GET", "/broken/{key}", "500"] == 1
        assert [record.getMessage() for record in caplog.records if record.exc_info] == [
            "unexpected error"
        ]
        ours = [record.getMessage() for record in caplog.records if record.name.startswith("app.")]
        assert "private.png" not in str(ours)
        with pytest.raises(ValueError, match="half"):  # the connection breaks
            http.get("/half")


def test_methods_that_a_client_makes_up_count_as_one(http: TestClient) -> None:
    for number in range(5):
        assert http.request(f"MADEUP{number}", "/livez").status_code == 405
    counted = {name: value for name, value in samples(http).items() if "MADEUP" in str(name)}
    assert counted == {}
    assert samples(http)["headwater_http_requests_total", "other", "/livez", "405"] == 5


def test_metrics_may_ask_for_a_token(service: Settings) -> None:
    settings = service.model_copy(update={"metrics_token": "prometheus-1"})
    with TestClient(create_app(settings)) as http:
        for sent in ({}, {"Authorization": "Bearer other"}, {"Authorization": "Bearer é"}):
            refused = http.get("/metrics", headers=[(k, v.encode()) for k, v in sent.items()])
            assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
            assert refused.headers["content-type"] == "application/problem+json"
        right = {"Authorization": "Bearer prometheus-1"}
        assert "headwater_database_up 1.0" in http.get("/metrics", headers=right).text
    with pytest.raises(ValidationError):
        Settings(metrics_token="two words")


def test_metrics_of_requests_and_of_the_database(
    http: TestClient, service: Settings, database: Database, index_id: str
) -> None:
    asked = http.post("/v1/attributions", json={"prompt": "a cat"}).json()["id"]
    http.get(f"/v1/attributions/{asked}")
    http.get("/v1/attributions/atr_none")
    with database.write() as session:
        session.execute(update(Job).values(due_at=now() - timedelta(seconds=90)))
        add_stages(session, "attribution", {"features": 1.5})
        add_stages(session, "attribution", {"features": 2.0, "search": 0.5})
        assert claim(session, service, asked)
        session.execute(
            update(Job).where(Job.id == asked).values(lease_until=now() - timedelta(seconds=1))
        )
    reap(database, service)
    beat(database, "relay")
    found = samples(http)
    route = "/v1/attributions/{attribution}"
    assert found["headwater_http_requests_total", "GET", route, "200"] == 1
    assert found["headwater_http_requests_total", "GET", route, "404"] == 1
    assert found["headwater_http_request_seconds_count", "GET", route] == 2
    assert found["headwater_jobs", "attribution", "queued"] == 1
    assert 80 < found["headwater_queue_age_seconds", "gpu"] < 300
    assert found["headwater_queue_age_seconds", "cpu"] == 0
    assert found["headwater_outbox_messages",] >= 1
    assert found["headwater_stage_seconds_count", "attribution", "features"] == 2
    assert found["headwater_stage_seconds_sum", "attribution", "features"] == 3.5
    assert found["headwater_events_total", "lease-expired"] == 1
    assert found["headwater_heartbeat_age_seconds", "relay"] < 30
    assert found["headwater_database_up",] == 1
    assert asked not in http.get("/metrics").text


def test_counts_of_many_workers_are_added_up(database: Database) -> None:
    def add(_: int) -> None:
        with database.write() as session:
            count(session, "model-loaded")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(16)))
    with database.read() as session:
        assert session.scalars(select(Measure.count)).one() == 16


def test_readiness_misses_programs_and_files(
    http: TestClient, database: Database, index_id: str, service: Settings
) -> None:
    def title() -> str:
        answer = http.get("/readyz")
        return "ready" if answer.is_success else str(answer.json()["detail"])

    with database.read() as session:
        directory = service.home / session.get_one(IndexVersion, index_id).directory
    assert title() == ", ".join(PROGRAMS)
    for program in PROGRAMS:
        beat(database, program)
    assert title() == index_id
    directory.mkdir(parents=True)
    (directory / "manifest.json").touch()
    assert title() == "ready"
    with database.write() as session:
        long_ago = now() - timedelta(minutes=5)
        session.execute(
            update(Heartbeat).where(Heartbeat.program == "gpu worker").values(at=long_ago)
        )
    assert title() == "gpu worker"
    assert http.get("/livez").status_code == 200


@pytest.mark.parametrize("days", [0, 7])
def test_old_attributions_are_forgotten_when_that_is_wanted(
    http: TestClient, service: Settings, database: Database, index_id: str, days: int
) -> None:
    old, new, unfinished = (
        http.post("/v1/attributions", json={"prompt": "a cat"}).json()["id"] for _ in range(3)
    )
    with database.write() as session:
        for asked, age in ((old, 8), (new, 6)):
            ended = {"status": "succeeded", "finished_at": now() - timedelta(days=age)}
            session.execute(update(Job).where(Job.id == asked).values(result={"a": 1}, **ended))
    export = Exports(service.home).picture(old)
    export.parent.mkdir(parents=True)
    export.touch()
    settings = service.model_copy(update={"retention_days": days})
    assert forget_old_attributions(database, settings) == (1 if days else 0)
    states = [http.get(f"/v1/attributions/{asked}").status_code for asked in (old, new, unfinished)]
    assert states == [410 if days else 200, 200, 200]
    assert export.exists() == (not days)
    with database.read() as session:
        events = session.scalars(select(JobEvent.id).where(JobEvent.job_id == old)).all()
        assert bool(events) == (not days)
