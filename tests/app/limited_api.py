"""What the fixture ``limited`` is."""

from __future__ import annotations

from typing import Any, Protocol

from fastapi.testclient import TestClient


class Limited(Protocol):
    """Makes a client of another API process, as it were; ``address`` is where it calls from."""

    def __call__(self, address: str = "testclient", **limits: Any) -> TestClient: ...
