"""Uploaded pictures: checked and cleaned before anything is stored."""

from __future__ import annotations

import hashlib
import os
import struct
import subprocess
import sys
import threading
from dataclasses import dataclass

from app import decode_image
from app.config import Settings
from app.outbound import Limits, Outbound, OutboundError
from app.problems import ProblemError

SECONDS = 30
# A large picture takes some 350 MB while it is decoded; the server has forty threads for requests.
_decoding = threading.BoundedSemaphore(os.cpu_count() or 1)
# So that slow servers elsewhere leave threads for others.
_fetching = threading.BoundedSemaphore(8)


@dataclass(frozen=True)
class Upload:
    """A clean PNG with its ``(width, height)``, and the SHA-256 of the file that was sent."""

    png: bytes
    size: tuple[int, int]
    original_sha256: str


def fetch_image(url: str, settings: Settings) -> bytes:
    """A picture of the internet, as it is there now; a ``ProblemError`` if there is none."""
    limits = Limits(settings.outbound_seconds, settings.max_upload_bytes)
    if not _fetching.acquire(timeout=settings.outbound_seconds):
        raise ProblemError(
            503,
            "fetching-busy",
            "Too many pictures are being fetched",
            headers={"Retry-After": "5"},
        )
    try:
        answer = Outbound(private=settings.outbound_private).send("GET", url, limits)
    except OutboundError as error:
        raise _unfetched(str(error)) from None
    finally:
        _fetching.release()
    if answer.status != 200:
        raise _unfetched(f"the server answered {answer.status}")
    return answer.body


def _unfetched(reason: str) -> ProblemError:
    return ProblemError(422, "image-url", "The picture cannot be fetched", reason)


def check_upload(content: bytes, settings: Settings) -> Upload:
    """Decode a picture in a limited child process; raise a ``ProblemError`` if it is refused."""
    if not content:
        raise ProblemError(422, "image-empty", "The image is empty")
    if len(content) > settings.max_upload_bytes:
        raise ProblemError(
            413,
            "image-too-large",
            "The image is too large",
            f"{len(content)} bytes are more than the allowed {settings.max_upload_bytes}",
        )
    # By path and isolated: the child sees Pillow and nothing of the application.
    command = [sys.executable, "-I", decode_image.__file__, str(settings.max_image_pixels)]
    try:
        with _decoding:
            child = subprocess.run(
                command, input=content, capture_output=True, timeout=SECONDS, check=False, env={}
            )
    except subprocess.TimeoutExpired:
        raise _undecodable("decoding took too long") from None
    reason = child.stderr.decode(errors="replace").strip()
    match child.returncode:
        case 0:
            # Width and height are where PNG's first chunk has them.
            width, height = struct.unpack(">II", child.stdout[16:24])
            digest = hashlib.sha256(content).hexdigest()
            return Upload(child.stdout, (width, height), digest)
        case decode_image.NOT_AN_IMAGE:
            raise ProblemError(415, "image-type", "The image's type is not supported", reason)
        case decode_image.TOO_LARGE:
            raise ProblemError(413, "image-too-large", "The image is too large", reason)
        case decode_image.BROKEN:
            raise _undecodable(reason)
        case _:
            # Killed by a limit, or out of memory; a traceback is not for the client.
            raise _undecodable("decoding needs more memory or time than is allowed")


def _undecodable(reason: str) -> ProblemError:
    return ProblemError(422, "image-broken", "The image cannot be decoded", reason)
