"""The two clients: one that blocks, one to be awaited; the same operations on both."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Generic, Self

import httpx

from headwater_client.resources.api_keys import ApiKeys
from headwater_client.resources.attributions import Attributions
from headwater_client.resources.catalogue import Contributors, Datasets, Samples
from headwater_client.resources.health import Health
from headwater_client.resources.indexes import Indexes
from headwater_client.resources.models import Models
from headwater_client.resources.takedowns import Takedowns
from headwater_client.resources.webhooks import Webhooks
from headwater_client.retries import Retries
from headwater_client.runners import AsyncRunner, R, Runner

DEFAULT_SERVER = "http://127.0.0.1:8000"
CONNECT_SECONDS = 5.0


class Surface(Generic[R]):
    """What can be done at a server."""

    def __init__(self, runner: R) -> None:
        self.attributions: Attributions[R] = Attributions(runner)
        self.datasets: Datasets[R] = Datasets(runner)
        self.samples: Samples[R] = Samples(runner)
        self.contributors: Contributors[R] = Contributors(runner)
        self.takedowns: Takedowns[R] = Takedowns(runner)
        self.models: Models[R] = Models(runner)
        self.indexes: Indexes[R] = Indexes(runner)
        self.webhooks: Webhooks[R] = Webhooks(runner)
        self.api_keys: ApiKeys[R] = ApiKeys(runner)
        self.health: Health[R] = Health(runner)


class Client(Surface[Runner]):
    """Talks to one Headwater server; safe to share among threads.

    Paths to models and datasets are read by the server, pictures are sent to it.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 60.0,
        retries: Retries | None = None,
    ) -> None:
        """By default ``HEADWATER_SERVER`` and ``HEADWATER_API_KEY`` of the environment.

        ``timeout`` are seconds without a byte after which a connection is held for lost.
        """
        self._http = httpx.Client(
            base_url=_server(base_url), headers=_headers(api_key), timeout=_timeout(timeout)
        )
        super().__init__(Runner(self._http, retries or Retries()))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class AsyncClient(Surface[AsyncRunner]):
    """``Client`` for asyncio: calls are awaited, lists and events are for ``async for``."""

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 60.0,
        retries: Retries | None = None,
    ) -> None:
        """As of ``Client``."""
        self._http = httpx.AsyncClient(
            base_url=_server(base_url), headers=_headers(api_key), timeout=_timeout(timeout)
        )
        super().__init__(AsyncRunner(self._http, retries or Retries()))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


def _server(base_url: str | None) -> str:
    return base_url or os.environ.get("HEADWATER_SERVER") or DEFAULT_SERVER


def _headers(api_key: str | None) -> dict[str, str]:
    key = api_key or os.environ.get("HEADWATER_API_KEY")
    return {"Authorization": f"Bearer {key}"} if key else {}


def _timeout(seconds: float) -> httpx.Timeout:
    return httpx.Timeout(seconds, connect=min(seconds, CONNECT_SECONDS))
