"""Requests and pauses as values: what is to be done, said without doing it.

Every road through the API is written once, as a generator of steps (``Flow``); ``runners`` take the
steps with blocking or with asynchronous calls.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import httpx

T = TypeVar("T")


@dataclass(frozen=True)
class Picture:
    """A file to upload, whole, so that it can be sent again."""

    name: str
    content: bytes


@dataclass(frozen=True)
class Exchange:
    """One request and its answer.

    ``repeatable``: doing it twice is the same as doing it once.  ``patience`` are seconds that the
    server may think longer than usual.  ``stream`` leaves the answer's body to be read piece by
    piece.
    """

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Mapping[str, Any] | None = None
    form: Mapping[str, str] | None = None
    picture: Picture | None = None
    repeatable: bool = True
    patience: float = 0.0
    at_most: float | None = None
    """The longest that may be waited for the answer, whatever is usual."""
    stream: bool = False

    def request(self, http: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        """The request as it goes out now."""
        usual = http.timeout
        longest = None if usual.read is None else usual.read + self.patience
        if self.at_most is not None:
            longest = self.at_most if longest is None else min(longest, self.at_most)
        timeout = httpx.Timeout(
            connect=usual.connect, write=usual.write, pool=usual.pool, read=longest
        )
        picture = self.picture
        return http.build_request(
            self.method,
            self.path,
            params=self.params or None,
            headers=self.headers,
            json=self.json,
            data=self.form,
            files=None if picture is None else {"image": (picture.name, picture.content)},
            timeout=timeout,
        )


@dataclass(frozen=True)
class Pause:
    """A while to do nothing in."""

    seconds: float


Step: TypeAlias = Exchange | Pause
Flow: TypeAlias = Generator[Step, httpx.Response | None, T]
"""Yields steps, is sent the answer to each exchange, and returns what came of it all."""


def exchanged(exchange: Exchange) -> Flow[httpx.Response]:
    """The answer to one exchange, whatever its status is."""
    response = yield exchange
    if response is None:
        raise TypeError("an exchange was not answered")
    return response
