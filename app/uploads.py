"""Uploaded pictures: checked and cleaned before anything is stored."""

from __future__ import annotations

import hashlib
import struct
import threading
from dataclasses import dataclass

from app import decode_image
from app.config import Settings
from app.decoder import Decoder
from app.outbound import Limits, Outbound, OutboundError
from app.problems import ProblemError
from app.provenance.credentials import credentials_of
from app.provenance.read_credentials import media_type_of

_decoder = Decoder()
# So that slow servers elsewhere leave threads for others.
_fetching = threading.BoundedSemaphore(8)


@dataclass(frozen=True)
class Upload:
    """A clean PNG with its ``(width, height)``, and what the file that was sent is and says."""

    png: bytes
    size: tuple[int, int]
    original_sha256: str
    original_type: str
    credentials: dict[str, str] | None


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
    """Decode a picture in a limited process; raise a ``ProblemError`` if it is refused."""
    if not content:
        raise ProblemError(422, "image-empty", "The image is empty")
    if len(content) > settings.max_upload_bytes:
        raise ProblemError(
            413,
            "image-too-large",
            "The image is too large",
            f"{len(content)} bytes are more than the allowed {settings.max_upload_bytes}",
        )
    answer = _decoder.decode(content, settings.max_image_pixels)
    if answer is None:
        raise _undecodable("decoding needs more memory or time than is allowed")
    if answer.code == decode_image.DECODED:
        # Width and height are where PNG's first chunk has them.
        width, height = struct.unpack(">II", answer.payload[16:24])
        digest = hashlib.sha256(content).hexdigest()
        kind, said = media_type_of(content), credentials_of(content)
        return Upload(answer.payload, (width, height), digest, kind, said)
    reason = answer.payload.decode(errors="replace")
    match answer.code:
        case decode_image.NOT_AN_IMAGE:
            raise ProblemError(415, "image-type", "The image's type is not supported", reason)
        case decode_image.TOO_LARGE:
            raise ProblemError(413, "image-too-large", "The image is too large", reason)
        case _:
            raise _undecodable(reason)


def _undecodable(reason: str) -> ProblemError:
    return ProblemError(422, "image-broken", "The image cannot be decoded", reason)
