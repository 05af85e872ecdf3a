"""Reading answers: bodies to models, and a clear error where a body is not what it should be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import httpx
from pydantic import TypeAdapter, ValidationError

from headwater_client.errors import HeadwaterError, client_problem

T = TypeVar("T")
Document = dict[str, Any]


def body_as(kind: type[T]) -> Callable[[httpx.Response], T]:
    """A reader of JSON bodies that are of some type."""
    adapter = TypeAdapter(kind)

    def read(response: httpx.Response) -> T:
        try:
            return adapter.validate_json(response.content)
        except ValidationError as error:
            fields = ", ".join(".".join(map(str, item["loc"])) for item in error.errors()[:5])
            title = "The server's answer is not understood"
            raise HeadwaterError(client_problem("answer-not-understood", title, fields)) from error

    return read


def body(response: httpx.Response) -> bytes:
    """The body as it is."""
    return response.content


def no_body(response: httpx.Response) -> None:
    """Nothing, where a success has nothing to say."""
