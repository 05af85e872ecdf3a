"""How often a tenant may ask: a moving window, shared by all API processes through Redis."""

from __future__ import annotations

import logging
import math
import time

from fastapi.concurrency import run_in_threadpool
from limits import RateLimitItem, parse
from limits.errors import StorageError
from limits.storage import MemoryStorage, RedisStorage, Storage
from limits.strategies import MovingWindowRateLimiter

from app.config import Settings
from app.problems import ProblemError

STORE_SECONDS = 0.5  # a broker that is away must not hold requests up

logger = logging.getLogger(__name__)


class RateLimit:
    """Counts requests.  Without Redis each process counts its own."""

    def __init__(self, settings: Settings) -> None:
        self.allowed = parse(settings.rate_limit) if settings.rate_limit else None
        self.window = MovingWindowRateLimiter(_store(settings))
        self.installation = settings.gpu_queue  # others may use the same Redis
        self.store_is_away = False

    async def count(self, tenant: str) -> None:
        """Count one request; a 429 problem where it is one too many.

        With the store out of reach nothing is refused: jobs are accepted without a broker too.
        """
        if self.allowed is not None:
            await run_in_threadpool(self._count, self.allowed, tenant)

    def _count(self, allowed: RateLimitItem, tenant: str) -> None:
        try:
            admitted = self.window.hit(allowed, self.installation, tenant)
            stats = self.window.get_window_stats(allowed, self.installation, tenant)
        except StorageError:
            if not self.store_is_away:
                logger.warning("requests cannot be counted: the store is out of reach")
            self.store_is_away = True
            return
        self.store_is_away = False
        if not admitted:
            raise ProblemError(
                429,
                "rate-limited",
                "Too many requests",
                f"at most {allowed}",
                headers={"Retry-After": str(max(1, math.ceil(stats.reset_time - time.time())))},
            )


def _store(settings: Settings) -> Storage:
    if not settings.broker_url.startswith("redis"):
        return MemoryStorage()
    return RedisStorage(
        settings.broker_url,
        wrap_exceptions=True,
        socket_timeout=STORE_SECONDS,
        socket_connect_timeout=STORE_SECONDS,
    )
