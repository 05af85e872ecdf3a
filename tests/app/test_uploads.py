"""Pictures that are refused, and that nothing is left of them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import httpx
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from sqlalchemy import func, select

from app.config import Settings
from app.database.engine import Database
from app.database.tables import Job, StoredImage
from app.jobs.kinds import ATTRIBUTION


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png(size: tuple[int, int] = (32, 16)) -> bytes:
    file = io.BytesIO()
    Image.effect_noise(size, 50).save(file, "PNG")
    return file.getvalue()


def huge_png() -> bytes:
    """20,000 × 20,000 grey pixels in about fifty kilobytes."""
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(2501 * 20_000), 9)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def gif() -> bytes:
    file = io.BytesIO()
    Image.new("L", (4, 4)).save(file, "GIF")
    return file.getvalue()


def ask(http: TestClient, content: bytes, **fields: str) -> httpx.Response:
    files = {"image": ("picture.png", content, "image/png")}
    return http.post("/v1/attributions", files=files, data=fields)


@pytest.fixture
def nothing_stored(service: Settings, database: Database) -> Iterator[None]:
    yield
    assert not list((service.home / "images").rglob("*"))
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(StoredImage)) == 0
        asked = select(func.count()).where(Job.kind == ATTRIBUTION)
        assert session.scalar(asked) == 0


@pytest.mark.usefixtures("index_id", "nothing_stored")
def test_what_is_refused_leaves_nothing(http: TestClient) -> None:
    cases: list[tuple[str, bytes, dict[str, str], int]] = [
        ("text", b"I am a text, whatever my name says.", {}, 415),
        ("another format", gif(), {}, 415),
        ("truncated", png()[:-200], {}, 422),
        ("huge", huge_png(), {}, 413),
        ("empty", b"", {}, 422),
        ("too many bytes", bytes(120_000), {}, 413),
        ("unknown model", png(), {"model": "nobody"}, 404),
        ("unknown method", png(), {"method": "guess"}, 422),
        ("top_k", png(), {"top_k": "1001"}, 422),
        ("unknown field", png(), {"colour": "red"}, 422),
    ]
    for name, content, fields, status in cases:
        refused = ask(http, content, **fields)
        assert (name, refused.status_code) == (name, status), refused.text
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json()["status"] == status


@pytest.mark.usefixtures("index_id", "nothing_stored")
def test_a_body_without_declared_length_is_limited(http: TestClient) -> None:
    boundary = "b0undary"
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        yield (
            f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'
        ).encode()
        while sent < 50_000_000:
            sent += 10_000
            yield bytes(10_000)

    for media_type in (f"multipart/form-data; boundary={boundary}", "application/json"):
        refused = http.post(
            "/v1/attributions", content=endless(), headers={"Content-Type": media_type}
        )
        assert refused.status_code == 413
        assert refused.headers["content-type"] == "application/problem+json"
        sent = 0


@pytest.mark.usefixtures("index_id")
def test_a_picture_is_cleaned_and_stored_once(http: TestClient, service: Settings) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn by 90 degrees
    exif[0x010E] = "where I live"
    image = Image.new("RGB", (40, 20), "teal")
    file = io.BytesIO()
    image.save(file, "JPEG", exif=exif)
    asked = [ask(http, file.getvalue()) for _ in range(2)]
    assert [answer.status_code for answer in asked] == [202, 202]
    stored = http.get(asked[0].json()["urls"]["image"])
    assert stored.headers["content-type"] == "image/png"
    clean = Image.open(io.BytesIO(stored.content))
    assert (clean.size, clean.mode, dict(clean.getexif())) == ((20, 40), "RGB", {})
    assert b"where I live" not in stored.content
    assert len(list((service.home / "images").rglob("*.png"))) == 1


@pytest.mark.usefixtures("index_id")
def test_sixteen_bit_greys_keep_their_tones(http: TestClient) -> None:
    file = io.BytesIO()
    Image.new("I;16", (4, 4), 0x8000).save(file, "PNG")
    stored = http.get(ask(http, file.getvalue()).json()["urls"]["image"])
    assert Image.open(io.BytesIO(stored.content)).getpixel((0, 0)) == (128, 128, 128)


@pytest.mark.usefixtures("index_id")
def test_transparency_becomes_white(http: TestClient) -> None:
    file = io.BytesIO()
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(file, "PNG")
    stored = http.get(ask(http, file.getvalue()).json()["urls"]["image"])
    assert Image.open(io.BytesIO(stored.content)).getpixel((0, 0)) == (255, 255, 255)
