"""A program: untrusted pictures, each in a process of its own, as clean PNGs.

A hostile file can at worst kill the process that opens it, which is limited in memory and time and
ends with its picture.  Starting Python and Pillow costs more than most pictures, so the program
does it once and forks for each: what forks never opens a picture itself, and no process sees two.

stdin is a socket; each message on it is the largest allowed number of pixels, with a connection on
which ``READY`` is said, the file is read, and ``REPLY`` is answered.  The program ends when nobody
holds the other end.
"""

from __future__ import annotations

import contextlib
import gc
import io
import os
import resource
import signal
import socket
import struct
import sys
import warnings
from typing import NoReturn

from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "WEBP")
DECODED, NOT_AN_IMAGE, BROKEN, TOO_LARGE = 0, 65, 66, 67
READY = b"!"
REPLY = struct.Struct(">BQ")
"""One of these codes, and the length of what follows: the PNG, or why there is none."""

MEMORY_BYTES = 1_500_000_000
CPU_SECONDS = 20
SECONDS = 30


class RefusedError(Exception):
    """The picture is refused with a code and a reason."""


def decode(content: bytes, max_pixels: int) -> Image.Image:
    """The first frame, upright, as RGB on white, without metadata."""
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        raise RefusedError(NOT_AN_IMAGE, f"the file is no {', '.join(FORMATS)} image") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise RefusedError(TOO_LARGE, str(error)) from None
    except (OSError, ValueError, SyntaxError) as error:
        raise RefusedError(BROKEN, f"the file cannot be read: {error}") from None
    width, height = image.size
    if width * height > max_pixels:
        raise RefusedError(
            TOO_LARGE, f"{width} × {height} are more than the allowed {max_pixels} pixels"
        )
    try:
        image.seek(0)
        image.load()
        upright = ImageOps.exif_transpose(image)
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise RefusedError(BROKEN, f"the file cannot be decoded: {error}") from None
    return on_white(upright)


def on_white(image: Image.Image) -> Image.Image:
    """RGB, with transparent parts as a viewer shows them."""
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        ground = Image.new("RGBA", rgba.size, "white")
        ground.alpha_composite(rgba)
        image = ground
    if image.mode.startswith("I"):
        # Pillow opens 16-bit greys so; converting them cuts all but the darkest off to white.
        image = image.point(lambda value: value * (1 / 256)).convert("L")
    return image.convert("RGB")


def clean_png(content: bytes, max_pixels: int) -> bytes:
    """The picture as a new PNG: pixels only, no EXIF, no profile, no text chunks."""
    Image.MAX_IMAGE_PIXELS = max_pixels
    image = decode(content, max_pixels)
    written = io.BytesIO()
    clean = Image.frombytes("RGB", image.size, image.tobytes())
    clean.save(written, "PNG", compress_level=1)
    return written.getvalue()


def warm_up() -> None:
    """Let Pillow load what it loads on first use, here instead of after each fork."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in FORMATS:
        written = io.BytesIO()
        Image.new("RGB", (8, 8)).save(written, name, exif=exif)
        clean_png(written.getvalue(), 64)


def limit_process() -> None:
    """Put an end to this process where a picture needs too much; whatever it does then."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(SECONDS)


def answer(handle: int, max_pixels: int) -> None:
    """Read a file to its end, and answer."""
    with socket.socket(fileno=handle) as connection:
        connection.sendall(READY)
        with connection.makefile("rb") as file:
            content = file.read()
        try:
            code, payload = DECODED, clean_png(content, max_pixels)
        except RefusedError as refused:
            code, reason = refused.args
            payload = str(reason).encode()
        connection.sendall(REPLY.pack(code, len(payload)))
        connection.sendall(payload)


def answer_alone(handle: int, max_pixels: int) -> NoReturn:
    """Do one picture and end, without an answer if need be."""
    code = 1
    with contextlib.suppress(Exception):
        limit_process()
        answer(handle, max_pixels)
        code = 0
    os._exit(code)


def main() -> int:
    """Fork for each picture until nobody can send one."""
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    warm_up()
    gc.freeze()  # their memory stays shared with this process
    pictures = socket.socket(fileno=sys.stdin.fileno())
    while True:
        message, handles, _, _ = socket.recv_fds(pictures, 32, 1)
        if not message:
            return 0
        with contextlib.suppress(OSError):  # no process to be had: nobody answers
            if os.fork() == 0:
                pictures.close()
                answer_alone(handles[0], int(message))
        os.close(handles[0])


if __name__ == "__main__":
    sys.exit(main())
