"""A picture's own manifest is read from what was sent, offline, and never refuses a picture."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import c2pa
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from signing_identity import Identity

from app.provenance.credentials import credentials_of


def picture(kind: str = "PNG") -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (32, 32), "teal").save(content, kind)
    return content.getvalue()


def signed(
    identity: Identity, kind: str = "PNG", remote: str | None = None, title: str = "a title"
) -> bytes:
    manifest = {"claim_generator_info": [{"name": "a generator"}], "title": title}
    out = io.BytesIO()
    with c2pa.Builder(manifest) as builder:
        builder.set_intent(
            c2pa.C2paBuilderIntent.CREATE,
            c2pa.C2paDigitalSourceType.TRAINED_ALGORITHMIC_MEDIA,
        )
        if remote:
            builder.set_no_embed()
            builder.set_remote_url(remote)
        builder.sign(identity.signer(), f"image/{kind.lower()}", io.BytesIO(picture(kind)), out)
    return out.getvalue()


@pytest.fixture
def visited() -> Iterator[tuple[str, list[str]]]:
    """A server on this machine, and what it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, format: str, *arguments: object) -> None:
            """Be quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/manifest.c2pa", asked
    server.shutdown()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_manifest_is_summed_up(identity: Identity, kind: str) -> None:
    assert credentials_of(signed(identity, kind)) == {
        "validation_state": "Valid",
        "claim_generator": "a generator",
        "issuer": "Headwater tests",
        "title": "a title",
        "actions": "c2pa.created",
        "digital_source_types": "trainedAlgorithmicMedia",
    }


def test_pictures_without_one_and_broken_ones(identity: Identity) -> None:
    assert credentials_of(picture()) is None
    assert credentials_of(b"\x89PNG caBX and nothing more") is None
    whole = signed(identity)
    assert credentials_of(whole[: len(whole) // 2]) is None
    changed = bytearray(whole)
    changed[-30] ^= 1
    said = credentials_of(bytes(changed))
    assert said is None or said["validation_state"] == "Invalid"


@pytest.mark.usefixtures("index_id")
def test_an_upload_keeps_the_summary_and_calls_nobody(
    http: TestClient, identity: Identity, visited: tuple[str, list[str]]
) -> None:
    url, asked = visited
    for kind in ("PNG", "JPEG", "WEBP"):
        sent = http.post("/v1/attributions", files={"image": signed(identity, kind)}).json()
        assert sent["request"]["picture_credentials"]["claim_generator"] == "a generator"
        assert sent["request"]["original_type"] == f"image/{kind.lower()}"
    # NUL is text to JSON, and not to every database; long scripts are long in JSON.
    for title in ("a\0b", "𝔸" * 600):
        titled = http.post("/v1/attributions", files={"image": signed(identity, title=title)})
        assert titled.status_code == 202, titled.text
        assert titled.json()["request"]["picture_credentials"]["title"] == title[:500]
    remote = signed(identity, remote=url)
    assert url.encode() in remote
    elsewhere = http.post("/v1/attributions", files={"image": remote + b"caBX"})
    assert elsewhere.status_code == 202, elsewhere.text
    assert elsewhere.json()["request"]["picture_credentials"] is None
    assert asked == []
