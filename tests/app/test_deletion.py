"""Deleted means gone: the question, the answer, and the picture that nothing else needs."""

from __future__ import annotations

import io
import os
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from sqlalchemy import select

from app.config import Settings
from app.database.engine import Database
from app.database.tables import Job, StoredImage, now
from app.jobs.claims import LeaseLostError, claim, succeed
from app.storage import ImageStore, record_image, sweep


def upload(http: TestClient, caption: str, **headers: str) -> str:
    content = io.BytesIO()
    Image.new("RGB", (8, 8), "teal").save(content, "PNG")
    asked = http.post(
        "/v1/attributions",
        files={"image": content.getvalue()},
        data={"caption": caption},
        headers=headers,
    )
    assert asked.status_code == 202, asked.text
    return str(asked.json()["id"])


@pytest.mark.usefixtures("index_id")
def test_a_deleted_attribution_is_gone(http: TestClient, database: Database) -> None:
    kept = upload(http, "kept")
    asked = upload(http, "a secret", **{"Idempotency-Key": "k"})
    assert http.delete(f"/v1/attributions/{asked}").status_code == 204
    for method, path in (
        ("GET", ""),
        ("GET", "/image"),
        ("GET", "/events"),
        ("POST", "/cancel"),
        ("DELETE", ""),
    ):
        answer = http.request(method, f"/v1/attributions/{asked}{path}")
        assert (answer.status_code, answer.json()["title"]) == (410, "The attribution was deleted")
    listed = http.get("/v1/attributions").json()["items"]
    assert [item["id"] for item in listed] == [kept]
    with database.read() as session:
        job = session.get_one(Job, asked)
        assert "secret" not in str(vars(job))
        assert (job.status, job.image_digest) == ("canceled", None)


@pytest.mark.usefixtures("index_id")
def test_the_key_of_a_deleted_attribution_stays_used(http: TestClient) -> None:
    body, once = {"prompt": "a cat"}, {"Idempotency-Key": "k"}
    asked = http.post("/v1/attributions", json=body, headers=once).json()["id"]
    http.delete(f"/v1/attributions/{asked}")
    assert http.post("/v1/attributions", json=body, headers=once).status_code == 410


@pytest.mark.usefixtures("index_id")
def test_a_worker_writes_nothing_into_a_deleted_one(
    http: TestClient, service: Settings, database: Database
) -> None:
    asked = upload(http, "x")
    with database.write() as session:
        held = claim(session, service, asked)
    assert held is not None
    http.delete(f"/v1/attributions/{asked}")
    with pytest.raises(LeaseLostError), database.write() as session:
        succeed(session, held, {"contributors": []})
    with database.read() as session:
        assert session.get_one(Job, asked).result is None


@pytest.mark.usefixtures("index_id")
def test_pictures_of_no_job_are_swept(
    http: TestClient, service: Settings, database: Database
) -> None:
    images = ImageStore(service.home)
    first, second = upload(http, "one"), upload(http, "two")  # the same picture
    (file,) = images.directory.rglob("*.png")
    later = now() + timedelta(hours=1)
    http.delete(f"/v1/attributions/{first}")
    assert sweep(database, images, later) == 0, "the other one still needs it"
    http.delete(f"/v1/attributions/{second}")
    assert sweep(database, images, now() - timedelta(hours=1)) == 0, "it was stored just now"
    assert file.is_file()
    assert sweep(database, images, later) == 1
    assert not file.exists()
    with database.read() as session:
        assert session.scalars(select(StoredImage.digest)).all() == []


def test_a_picture_stored_again_while_it_is_swept_stays(
    service: Settings, database: Database
) -> None:
    """The row is written anew and the file's date says that somebody needs it."""
    images = ImageStore(service.home)
    digest = images.put(b"png")
    with database.write() as session:
        record_image(session, digest, (1, 1))
    old = (now() - timedelta(hours=2)).timestamp()
    os.utime(images.path(digest), (old, old))
    hour_ago = now() - timedelta(hours=1)
    with database.write() as session:
        session.get_one(StoredImage, digest).stored_at = now() - timedelta(hours=2)

    swept: list[int] = []
    sweeper = threading.Thread(target=lambda: swept.append(sweep(database, images, hour_ago)))
    with database.write() as session:
        images.put(b"png")
        record_image(session, digest, (1, 1))
        session.flush()
        sweeper.start()
        sweeper.join(0.5)
    sweeper.join()
    assert swept == [0]
    assert images.path(digest).is_file()
    with database.read() as session:
        assert session.get(StoredImage, digest) is not None


def test_a_file_without_a_row_is_no_error(tmp_path: Path, database: Database) -> None:
    assert sweep(database, ImageStore(tmp_path), now()) == 0
