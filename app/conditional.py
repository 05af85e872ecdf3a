"""Conditional requests (RFC 9110, 13): a poll that finds nothing new costs no body."""

from __future__ import annotations

import hashlib
from typing import Annotated

from fastapi import Header, Response
from pydantic import BaseModel

IfNoneMatch = Annotated[str | None, Header()]


def tagged(shown: BaseModel, if_none_match: str | None, headers: dict[str, str]) -> Response:
    """The body with its ``ETag``; 304 without it where the client has that body."""
    body = shown.model_dump_json().encode()
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers |= {"ETag": etag, "Cache-Control": "no-cache"}
    if if_none_match and matches(if_none_match, etag):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type="application/json")


def matches(if_none_match: str, etag: str) -> bool:
    """Weak comparison of RFC 9110, 8.8.3.2."""
    listed = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in listed or etag in listed
