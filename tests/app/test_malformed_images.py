"""Five hundred pictures as nobody should send them: refused or cleaned, never a 5xx, no growth."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from app.config import Settings

EACH = 56
GROWTH_BYTES = 60_000_000


def picture(kind: str, mode: str = "RGB", size: tuple[int, int] = (48, 32), **how: object) -> bytes:
    content = io.BytesIO()
    Image.effect_noise(size, 60).convert(mode).save(content, kind, **how)  # type: ignore[arg-type]
    return content.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, depth: int, colour: int, data: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def strange() -> Iterator[bytes]:
    """Valid ones of every odd kind, bombs, polyglots and lies about sizes."""
    for mode in ("1", "L", "LA", "P", "RGBA", "I;16"):
        yield picture("PNG", mode)
    yield from (picture("JPEG", "CMYK"), picture("JPEG", "L"), picture("WEBP", "RGBA"))
    frames = [Image.new("RGB", (16, 16), (n, 0, 0)) for n in range(40)]
    for kind in ("PNG", "WEBP"):
        content = io.BytesIO()
        frames[0].save(content, kind, save_all=True, append_images=frames[1:])
        yield content.getvalue()
    bomb = zlib.compress(bytes(30_000_000), 9)
    for width, height in ((20_000, 20_000), (1, 2**31 - 1), (0, 0), (0, 9), (2**31, 2**31), (9, 1)):
        for colour in (0, 2, 3, 6, 7):
            yield png(width, height, 8, colour, bomb if width < 100 else b"")
    yield png(16, 16, 3, 2, zlib.compress(bytes(16 * 49)))
    yield from (
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a" + bytes(40),
        b"%PDF-1.7",
        b"<svg/>",
        b"BM" * 30,
    )
    for kind in ("PNG", "JPEG", "WEBP"):
        whole = picture(kind)
        yield from (whole + b"PK\x03\x04" + bytes(99), b"<script>" + whole, whole + whole)
    text = b"comment\0" + zlib.compress(bytes(20_000_000))
    plain = picture("PNG")
    yield plain[:33] + chunk(b"zTXt", text.replace(b"\0", b"\0\0", 1)) + plain[33:]
    yield plain[:33] + chunk(b"iCCP", text.replace(b"\0", b"\0\0", 1)) + plain[33:]
    yield plain[:33] + chunk(b"eXIf", b"MM\0*" + b"\xff" * 60) + plain[33:]


def damaged(seed: int) -> Iterator[bytes]:
    """Cut, with bits flipped, with pieces moved, and with other files' pieces in them."""
    chance = random.Random(seed)
    wholes = [picture(kind) for kind in ("PNG", "JPEG", "WEBP")]
    while True:
        content = bytearray(chance.choice(wholes))
        for _ in range(chance.randint(1, 4)):
            at, length = chance.randrange(len(content)), chance.randint(1, 40)
            match chance.randrange(4):
                case 0:
                    del content[at:]
                case 1:
                    for place in range(at, min(at + length, len(content))):
                        content[place] ^= 1 << chance.randrange(8)
                case 2:
                    content[at:at] = content[: length * 4]
                case _:
                    content[at : at + length] = chance.choice(wholes)[at : at + length]
            if not content:
                break
        yield bytes(content)


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


@pytest.mark.usefixtures("index_id")
def test_malformed_pictures(http: TestClient, service: Settings) -> None:
    contents = list(strange())
    for seed in range(8):
        contents += [content for content, _ in zip(damaged(seed), range(EACH), strict=False)]
    assert len(contents) >= 500
    accepted, before = set(), 0
    for number, content in enumerate(contents):
        answer = http.post("/v1/attributions", files={"image": ("a.png", content)})
        assert answer.status_code in (202, 413, 415, 422), (number, answer.text)
        if answer.status_code == 202:
            accepted.add(http.get(answer.json()["urls"]["image"]).content)
        else:
            assert answer.headers["content-type"] == "application/problem+json"
        if number == 100:
            before = resident()
    assert resident() - before < GROWTH_BYTES
    stored = [file for file in (service.home / "images").rglob("*") if file.is_file()]
    assert {file.read_bytes() for file in stored} == accepted
    assert 10 < len(accepted) < len(contents) / 2
