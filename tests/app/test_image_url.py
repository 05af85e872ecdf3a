"""Asking about a picture that the server fetches."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from sqlalchemy import select

from app.config import Settings
from app.database.engine import Database
from app.database.tables import Job
from app.jobs.kinds import ATTRIBUTION
from app.main import create_app


class Gallery(BaseHTTPRequestHandler):
    """Answers with a picture, a redirect, text, too much, or 404."""

    asked: list[str]

    def do_GET(self) -> None:
        type(self).asked.append(self.path)
        content = io.BytesIO()
        Image.new("RGB", (8, 8), "teal").save(content, "PNG")
        body = {"/a.png": content.getvalue(), "/text.png": b"text", "/long.png": b"x" * 200_000}
        self.send_response({"/moved.png": 302}.get(self.path, 200 if self.path in body else 404))
        self.send_header("Location", "/a.png")
        self.send_header("Content-Length", str(len(body.get(self.path, b""))))
        self.end_headers()
        self.wfile.write(body.get(self.path, b""))

    def log_message(self, *arguments: object) -> None:
        """Be silent."""


@pytest.fixture
def gallery() -> Iterator[str]:
    Gallery.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Gallery)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def api(service: Settings, index_id: str) -> Iterator[TestClient]:
    """The same installation, which may fetch from this machine."""
    limits = {"outbound_private": True, "max_upload_bytes": 100_000, "outbound_seconds": 3}
    with TestClient(create_app(service.model_copy(update=limits))) as client:
        yield client


def test_a_picture_is_fetched_once(api: TestClient, database: Database, gallery: str) -> None:
    body = {"image_url": f"{gallery}/a.png", "caption": "teal"}
    for _ in range(2):
        asked = api.post("/v1/attributions", json=body, headers={"Idempotency-Key": "k"})
        assert asked.status_code == 202, asked.text
    assert Gallery.asked == ["/a.png"]
    assert asked.json()["request"]["image_url"] == f"{gallery}/a.png"
    picture = api.get(asked.json()["urls"]["image"])
    with Image.open(io.BytesIO(picture.content)) as stored:
        assert stored.size == (8, 8)


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/gone.png", 422, "the server answered 404"),
        ("/moved.png", 422, "the server answered 302"),
        ("/long.png", 422, "longer than 100000 bytes"),
        ("/text.png", 415, "type is not supported"),
    ],
)
def test_what_is_no_picture_is_refused(
    api: TestClient, database: Database, gallery: str, path: str, status: int, said: str
) -> None:
    refused = api.post("/v1/attributions", json={"image_url": gallery + path})
    assert refused.status_code == status
    assert said in refused.text
    assert refused.headers["content-type"] == "application/problem+json"
    with database.read() as session:
        assert session.scalars(select(Job.id).where(Job.kind == ATTRIBUTION)).all() == []


def test_where_its_end_cannot_be_told_a_picture_is_not_fetched(
    api: TestClient, gallery: str
) -> None:
    body = {"image_url": f"{gallery}/a.png", "webhook_url": "https://example.org/hook"}
    refused = api.post("/v1/attributions", json=body)
    assert (refused.status_code, Gallery.asked) == (409, [])
    api.post("/v1/webhooks/secret")
    assert api.post("/v1/attributions", json=body).status_code == 202


@pytest.mark.usefixtures("index_id")
def test_this_network_is_not_asked(http: TestClient, gallery: str) -> None:
    """By default: neither http nor addresses that are not public."""
    for url in (f"{gallery}/a.png", gallery.replace("http", "https"), "https://[::1]/a.png"):
        refused = http.post("/v1/attributions", json={"image_url": url})
        assert (refused.status_code, refused.json()["title"]) == (
            422,
            "The picture cannot be fetched",
        )
    assert Gallery.asked == []


@pytest.mark.usefixtures("index_id")
def test_a_picture_and_a_prompt_are_two_questions(http: TestClient) -> None:
    both = {"image_url": "https://example.org/a.png", "prompt": "a cat"}
    assert http.post("/v1/attributions", json=both).status_code == 422
