"""How often a caller may ask: a moving window, shared by all API processes through Redis."""

from __future__ import annotations

import ipaddress
import logging
import math
import threading
import time

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from limits import RateLimitItem, parse
from limits.errors import StorageError
from limits.storage import MemoryStorage, RedisStorage, Storage
from limits.strategies import MovingWindowRateLimiter

from app.config import Settings
from app.problems import ProblemError
from app.requests import answer_with

STORE_SECONDS = 0.5  # a broker that is away must not hold requests up
PAUSE_SECONDS = 5.0  # and is not asked again for so long

logger = logging.getLogger(__name__)


class RateLimit:
    """Counts requests.  Without Redis each process counts its own."""

    def __init__(self, settings: Settings) -> None:
        self.allowed = parse(settings.rate_limit) if settings.rate_limit else None
        self.window = MovingWindowRateLimiter(_store(settings))
        self.installation = settings.gpu_queue  # others may use the same Redis
        self._away_until = 0.0
        self._told = False
        self._lock = threading.Lock()

    async def count(self, request: Request, caller: str) -> None:
        """Count one request, and tell in its answer what is left; a 429 problem beyond that.

        With the store out of reach nothing is refused: jobs are accepted without a broker too.
        """
        if self.allowed is not None and time.monotonic() >= self._away_until:
            await run_in_threadpool(self._count, request, self.allowed, caller)

    def _count(self, request: Request, allowed: RateLimitItem, caller: str) -> None:
        try:
            admitted = self.window.hit(allowed, self.installation, caller)
            stats = self.window.get_window_stats(allowed, self.installation, caller)
        except StorageError:
            self._store_is_away()
            return
        self._told = False
        reset = max(1, math.ceil(stats.reset_time - time.time()))
        # The fields of draft-ietf-httpapi-ratelimit-headers-10.
        policy = f'"requests";q={allowed.amount};w={allowed.get_expiry()}'
        answer_with(request, "RateLimit-Policy", policy)
        answer_with(request, "RateLimit", f'"requests";r={stats.remaining};t={reset}')
        if not admitted:
            raise ProblemError(
                429,
                "rate-limited",
                "Too many requests",
                f"at most {allowed}",
                headers={"Retry-After": str(reset)},
            )

    def _store_is_away(self) -> None:
        with self._lock:
            self._away_until = time.monotonic() + PAUSE_SECONDS
            if not self._told:
                logger.warning("requests cannot be counted: the store is out of reach")
            self._told = True


def address_of(request: Request) -> str:
    """Who calls without a key: an address, or the network that one customer is given of IPv6."""
    host = request.client.host if request.client else "unknown"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # of a server on a Unix socket, or of a test
        return host
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def _store(settings: Settings) -> Storage:
    if not settings.broker_url.startswith("redis"):
        return MemoryStorage()
    return RedisStorage(
        settings.broker_url,
        wrap_exceptions=True,
        socket_timeout=STORE_SECONDS,
        socket_connect_timeout=STORE_SECONDS,
    )
