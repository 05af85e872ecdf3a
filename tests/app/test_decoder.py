"""Pictures are opened by processes that see nothing else, and that may die."""

from __future__ import annotations

import io
import os
import signal
import struct
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from app.decode_image import BROKEN, DECODED, NOT_AN_IMAGE
from app.decoder import Decoder

PIXELS = 1_000_000


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    made = Decoder()
    yield made
    made.close()


def png(colour: int = 0) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (colour, 0, 0)).save(file, "PNG")
    return file.getvalue()


def program(decoder: Decoder) -> Path:
    """What the system says of the program that forks."""
    assert decoder._program is not None
    return Path("/proc") / str(decoder._program.pid)


def children(process: Path) -> list[str]:
    return (process / "task" / process.name / "children").read_text().split()


def test_each_gets_the_answer_to_its_own_picture(decoder: Decoder) -> None:
    def colour_of(sent: int) -> object:
        answer = decoder.decode(png(sent), PIXELS)
        assert answer is not None
        assert answer.code == DECODED
        with Image.open(io.BytesIO(answer.payload)) as image:
            return image.getpixel((0, 0))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(colour_of, range(40))) == [(sent, 0, 0) for sent in range(40)]
    deadline = time.monotonic() + 20
    while children(program(decoder)):
        assert time.monotonic() < deadline, "a process outlived its picture"
        time.sleep(0.05)


def test_what_is_refused_says_why(decoder: Decoder) -> None:
    file = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(file, "PNG")
    noise = file.getvalue()
    for content, code in ((b"text", NOT_AN_IMAGE), (noise[: len(noise) // 2], BROKEN)):
        answer = decoder.decode(content, PIXELS)
        assert answer is not None
        assert (answer.code, answer.payload.startswith(b"the file")) == (code, True)


def test_a_picture_that_needs_too_much_memory_harms_nobody(decoder: Decoder) -> None:
    """400 million pixels, which the caller's limit allows here: 1.2 GB and more as RGB."""
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(2501 * 20_000), 9)
    chunks = ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
    bomb = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    assert decoder.decode(bomb, 10**9) is None
    before = program(decoder)
    assert decoder.decode(png(), PIXELS) is not None
    assert program(decoder) == before, "only the picture's process died"


def test_the_program_is_started_again(decoder: Decoder) -> None:
    assert decoder.decode(png(), PIXELS) is not None
    for _ in range(3):
        os.kill(int(program(decoder).name), signal.SIGKILL)
        answer = decoder.decode(png(), PIXELS)
        assert answer is not None
        assert answer.code == DECODED


def test_it_sees_nothing_of_the_application(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWATER_SECRET", "in the environment")
    with open(__file__) as ours:
        os.set_inheritable(ours.fileno(), True)
        decoder.decode(png(), PIXELS)
        process = program(decoder)
        assert (process / "environ").read_bytes() == b""
        assert (process / "cwd").readlink() == Path("/")
        opened = {str(handle.readlink()) for handle in (process / "fd").iterdir()}
    assert {name for name in opened if not name.startswith("socket:")} == {"/dev/null"}


def test_it_ends_with_its_owner(decoder: Decoder) -> None:
    decoder.decode(png(), PIXELS)
    process = program(decoder)
    decoder.close()
    assert not process.exists()
