"""One request is one job, however often and however fast it is sent."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from sqlalchemy import func, select

from app.attributions.idempotency import Once, submit_once
from app.config import Settings
from app.database.engine import Database
from app.database.tables import Job, OutboxMessage
from app.jobs.kinds import ATTRIBUTION
from app.jobs.submission import submit

ONCE = {"Idempotency-Key": "order-17"}


def count(database: Database) -> int:
    with database.read() as session:
        jobs = session.scalar(select(func.count()).where(Job.kind == ATTRIBUTION))
        sent = select(OutboxMessage.job_id).join(Job, Job.id == OutboxMessage.job_id)
        messages = session.scalars(sent.where(Job.kind == ATTRIBUTION)).all()
        assert len(messages) == jobs
        return int(jobs or 0)


def picture(colour: int = 0) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (8, 8), (colour, 0, 0)).save(content, "PNG")
    return content.getvalue()


@pytest.mark.usefixtures("index_id")
def test_twenty_at_once_are_one_job(http: TestClient, database: Database) -> None:
    def ask(_: int) -> tuple[int, str]:
        asked = http.post("/v1/attributions", json={"prompt": "a cat"}, headers=ONCE)
        return asked.status_code, asked.json()["id"]

    with ThreadPoolExecutor(20) as pool:
        answers = set(pool.map(ask, range(20)))
    assert len(answers) == 1
    assert next(iter(answers))[0] == 202
    assert count(database) == 1


@pytest.mark.usefixtures("index_id")
def test_uploads_at_once_are_one_job(http: TestClient, database: Database) -> None:
    def ask(_: int) -> str:
        asked = http.post("/v1/attributions", files={"image": picture()}, headers=ONCE)
        assert asked.status_code == 202, asked.text
        return str(asked.json()["id"])

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(ask, range(4)))) == 1
    assert count(database) == 1


@pytest.mark.usefixtures("index_id")
def test_another_body_is_refused(http: TestClient, database: Database) -> None:
    files = {"image": picture()}
    first = http.post("/v1/attributions", files=files, data={"caption": "a"}, headers=ONCE)
    assert first.status_code == 202
    for other in (
        {"files": {"image": picture(9)}, "data": {"caption": "a"}},
        {"files": files, "data": {"caption": "b"}},
        {"files": files},
        {"json": {"prompt": "a"}},
    ):
        refused = http.post("/v1/attributions", headers=ONCE, **other)
        assert refused.status_code == 422
        assert refused.json()["type"].endswith("idempotency-key-reused")
    same = http.post("/v1/attributions", files=files, data={"caption": "a"}, headers=ONCE)
    assert same.json()["id"] == first.json()["id"]
    assert count(database) == 1


@pytest.mark.usefixtures("index_id")
def test_a_refused_request_leaves_its_key_free(http: TestClient, database: Database) -> None:
    refused = http.post("/v1/attributions", files={"image": b"text"}, headers=ONCE)
    assert refused.status_code == 415
    assert http.post("/v1/attributions", files={"image": picture()}, headers=ONCE).is_success
    assert count(database) == 1


@pytest.mark.usefixtures("index_id")
@pytest.mark.parametrize("key", ["", "with space", "k" * 256, "é"])
def test_keys_are_printable_and_short(http: TestClient, key: str) -> None:
    headers = {"Idempotency-Key": key.encode("latin-1")}
    asked = http.post("/v1/attributions", json={"prompt": "a cat"}, headers=headers)
    assert asked.status_code == 422


@pytest.mark.parametrize("service", ["servers"], indirect=True)  # SQLite has one writer at a time
def test_who_loses_the_race_gets_the_winners_job(service: Settings, database: Database) -> None:
    """The second request has looked before the first one has written."""
    own, once = database.of_tenant("default"), Once("k", "digest")

    def slow(session: object) -> Job:
        first = submit_once(own, once, fast) if not count(database) else None
        assert first is not None
        with database.read() as other:
            assert other.get(Job, first.id) is not None
        return fast(session)

    def fast(session: object) -> Job:
        return submit(session, service, ATTRIBUTION, {})  # type: ignore[arg-type]

    job = submit_once(own, once, slow)
    assert count(database) == 1
    with database.read() as session:
        assert session.scalars(select(Job.id)).one() == job.id


def test_the_key_is_each_tenants_own(service: Settings, database: Database, tmp_path: Path) -> None:
    from app.access.keys import ensure_tenant

    ensure_tenant(database, "bob")
    jobs = {
        tenant: submit_once(
            database.of_tenant(tenant),
            Once("k", tenant),
            lambda session: submit(session, service, ATTRIBUTION, {}),
        )
        for tenant in ("default", "bob")
    }
    assert jobs["bob"].id != jobs["default"].id
    assert count(database) == 2
