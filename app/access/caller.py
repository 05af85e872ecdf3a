"""Who is calling: the tenant and scopes of the key that a request carries."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.access import keys
from app.access.rate_limit import RateLimit, address_of
from app.access.scopes import SCOPES, Area, needed
from app.config import Settings
from app.database.engine import Database
from app.database.tables import DEFAULT_TENANT, ApiKey
from app.problems import ProblemError

# Not its own refusal: that would be no problem document.
bearer = HTTPBearer(auto_error=False, description="An API key, where the installation asks for one")


@dataclass(frozen=True)
class Caller:
    """A tenant, and what it may do in this request."""

    tenant: str
    scopes: frozenset[str]
    counted_as: str
    """Whose requests these are, for the rate limit."""


async def identify(
    request: Request,
    sent: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
) -> Caller:
    """The caller; a 401 problem where a valid key is needed and none was sent."""
    settings = cast(Settings, request.app.state.settings)
    if settings.access == "open":
        return Caller(DEFAULT_TENANT, frozenset(SCOPES), address_of(request))
    if sent is None:
        raise ProblemError(
            401,
            "key-missing",
            "An API key is needed",
            "send it as `Authorization: Bearer hw_…`",
            headers={"WWW-Authenticate": "Bearer"},
        )
    database = cast(Database, request.app.state.database)
    key = await run_in_threadpool(_valid_key, database, sent.credentials)
    if key is None:
        await _count(request, address_of(request))
        raise ProblemError(
            401,
            "key-invalid",
            "The API key is not valid",
            "it is unknown, has expired or was revoked",
            headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
        )
    return Caller(key.tenant_id, frozenset(key.scopes), f"tenant {key.tenant_id}")


async def _count(request: Request, caller: str) -> None:
    await cast(RateLimit, request.app.state.rate_limit).count(request, caller)


def _valid_key(database: Database, secret: str) -> ApiKey | None:
    with database.read() as session:
        return keys.valid(session, secret)


CallerDep = Annotated[Caller, Depends(identify)]


def opens(area: Area) -> Callable[[Request, Caller], Awaitable[None]]:
    """A dependency that refuses callers whose key does not open the area, or who ask too often."""

    async def check(request: Request, caller: CallerDep) -> None:
        request.state.tenant = caller.tenant
        await _count(request, caller.counted_as)
        scope = needed(area, request.method)
        if scope not in caller.scopes:
            raise ProblemError(
                403,
                "scope-missing",
                "The API key does not allow this",
                f"it lacks {scope}",
                headers={"WWW-Authenticate": f'Bearer error="insufficient_scope" scope="{scope}"'},
            )

    return check
