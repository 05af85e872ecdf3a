"""A signed picture is made for whoever asks, once, and never of an answer that is no more."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import c2pa
import pytest
from fastapi.testclient import TestClient
from limited_api import Limited
from PIL import Image
from sqlalchemy import select, update

from app.config import Settings
from app.database.engine import Database
from app.database.tables import Job, now
from app.jobs.claims import claim, succeed
from app.jobs.kinds import C2PA_SIGN
from app.provenance.signing import Signed, sign
from app.storage import Exports
from workers.execution import run_next
from workers.reaper import reap
from workers.tasks.queues import CPU_WORK

Work = Callable[..., None]


def as_jpeg(png: bytes) -> bytes:
    content = io.BytesIO()
    Image.open(io.BytesIO(png)).save(content, "JPEG")
    return content.getvalue()


@pytest.fixture
def answered(
    http: TestClient,
    index_id: str,
    service: Settings,
    database: Database,
    png: bytes,
    result: dict[str, Any],
) -> str:
    """An attribution that has succeeded where nothing is signed."""
    asked = http.post("/v1/attributions", files={"image": as_jpeg(png)})
    assert (asked.status_code, asked.json()["index"]) == (202, index_id)
    found = str(asked.json()["id"])
    with database.write() as session:
        held = claim(session, service, found)
        assert held is not None
        succeed(session, held, result)
    return found


@pytest.fixture
def signer(limited: Limited, certified: dict[str, Any]) -> TestClient:
    """The same installation once it signs."""
    return limited(**certified)


@pytest.fixture
def work(
    service: Settings,
    database: Database,
    certified: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> Work:
    """Do what a worker of the CPU queue would, once; other settings may be given."""

    def once(**changed: Any) -> None:
        settings = service.model_copy(update=certified | changed)
        monkeypatch.setattr("workers.tasks.signing.settings", lambda: settings)
        monkeypatch.setattr("workers.tasks.signing.database", lambda: database)
        run_next(database, settings, CPU_WORK)

    return once


def signings(database: Database) -> list[Job]:
    with database.read() as session:
        return list(session.scalars(select(Job).where(Job.kind == C2PA_SIGN).order_by(Job.id)))


def test_an_answer_older_than_the_certificate_is_signed_when_asked_for(
    http: TestClient,
    signer: TestClient,
    answered: str,
    database: Database,
    work: Work,
    png: bytes,
) -> None:
    url = f"/v1/attributions/{answered}/c2pa"
    unsigned = http.get(url)
    assert (unsigned.status_code, unsigned.json()["type"][-19:]) == (404, "c2pa-not-configured")
    assert signings(database) == []
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(signer.get, [url] * 8))
    assert {answer.status_code for answer in answers} == {404}
    assert {answer.json()["type"] for answer in answers} == {"urn:headwater:problem:c2pa-not-ready"}
    assert all(answer.headers["Retry-After"] for answer in answers)
    assert len(signings(database)) == 1
    work()
    signed = signer.get(url)
    assert (signed.status_code, signed.headers["content-type"]) == (200, "image/png")
    with c2pa.Reader("image/png", io.BytesIO(signed.content)) as reader:
        assert reader.get_validation_state() == "Valid"
        (said,) = (
            part["data"]
            for part in reader.get_active_manifest()["assertions"]
            if part["label"] == "org.example.training-attribution"
        )
    assert said["subject"] == {
        "alg": "sha256",
        "hash": hashlib.sha256(as_jpeg(png)).hexdigest(),
        "media_type": "image/jpeg",
    }
    assert len(signings(database)) == 1


def test_what_cannot_be_signed_is_said_and_tried_again_later(
    signer: TestClient, answered: str, database: Database, work: Work, tmp_path: Path
) -> None:
    url = f"/v1/attributions/{answered}/c2pa"
    assert signer.get(url).status_code == 404
    work(c2pa_private_key=tmp_path / "none.pem")
    (failed,) = signings(database)
    assert (failed.status, failed.attempt) == ("failed", 1)
    for _ in range(3):
        said = signer.get(url)
        assert (said.status_code, said.json()["title"]) == (503, "The picture could not be signed")
        assert said.headers["Retry-After"] == "60"
        assert "none.pem" not in said.text
    assert len(signings(database)) == 1
    with database.write() as session:
        earlier = now() - timedelta(minutes=2)
        session.execute(update(Job).where(Job.id == failed.id).values(finished_at=earlier))
    assert signer.get(url).status_code == 404
    work()
    assert signer.get(url).status_code == 200


def deleted(database: Database, settings: Settings, http: TestClient, attribution: str) -> None:
    assert http.delete(f"/v1/attributions/{attribution}").status_code == 204


def rewritten(database: Database, settings: Settings, http: TestClient, attribution: str) -> None:
    with database.write() as session:
        job = session.get_one(Job, attribution)
        assert job.result is not None
        job.result = job.result | {"contributors": job.result["contributors"][1:], "redacted": 1}
    Exports(settings.home).forget(attribution)


def given_on(database: Database, settings: Settings, http: TestClient, attribution: str) -> None:
    """Somebody else has the job, and has yet to sign."""
    (signing,) = signings(database)
    with database.write() as session:
        session.execute(update(Job).values(lease_until=now() - timedelta(seconds=1)))
    reap(database, settings)
    with database.write() as session:
        assert claim(session, settings, signing.id) is not None


@pytest.mark.parametrize("meanwhile", [deleted, rewritten, given_on])
def test_nothing_is_published_of_an_answer_that_changed_while_it_was_signed(
    http: TestClient,
    signer: TestClient,
    service: Settings,
    answered: str,
    database: Database,
    work: Work,
    monkeypatch: pytest.MonkeyPatch,
    meanwhile: Callable[[Database, Settings, TestClient, str], None],
) -> None:
    def slowly(*arguments: Any) -> Signed:
        signed = sign(*arguments)
        meanwhile(database, service, http, answered)
        return signed

    monkeypatch.setattr("workers.tasks.signing.sign", slowly)
    assert signer.get(f"/v1/attributions/{answered}/c2pa").status_code == 404
    work()
    assert not list((service.home / "exports").glob("*"))
