"""Asking again: after lost connections and refusals that pass, and never twice for one thing."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from itertools import count

import httpx

from headwater_client.errors import HeadwaterError, UnreachableError, client_problem
from headwater_client.exchange import Exchange, Flow, Pause, exchanged
from headwater_client.models.problem import Problem

REFUSED = frozenset({429, 503})  # the server says that it has done nothing
UNCERTAIN = frozenset({502, 504})  # a gateway says that it does not know
GONE = frozenset({404, 410})
NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True)
class Retries:
    """How often a request is made, and how long the pauses between are.

    Pauses double from ``first_pause`` and vary by up to half, so that many clients do not come back
    at one moment.  ``Retry-After`` is honoured; who is told to stay away longer than
    ``longest_pause`` gets the error instead.
    """

    attempts: int = 5
    first_pause: float = 0.5
    longest_pause: float = 60.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError("a request is made at least once: attempts >= 1")

    def pause(self, failures: int, retry_after: float | None = None) -> float:
        """Seconds to wait after so many failures in a row."""
        backoff = min(self.longest_pause, self.first_pause * 2.0 ** (failures - 1))
        return max(retry_after or 0.0, backoff * random.uniform(0.5, 1.0))


def persist(exchange: Exchange, retries: Retries) -> Flow[httpx.Response]:
    """The answer that is no error; a ``HeadwaterError`` once trying again is of no use.

    What is not repeatable is sent again only if nobody can have acted on it.
    """
    may_have_acted = False
    for failures in count(1):
        wanted: float | None = None
        failure: HeadwaterError
        try:
            response = yield from exchanged(exchange)
        except httpx.TransportError as error:
            failure = unreachable(error)
            failure.__cause__ = error
            certain = isinstance(error, NEVER_SENT)
        except httpx.RequestError as error:
            raise unreachable(error) from error
        else:
            if response.is_success or response.status_code == HTTPStatus.NOT_MODIFIED:
                return response
            if may_have_acted and exchange.method == "DELETE" and response.status_code in GONE:
                return response  # an earlier attempt has deleted it, and its answer was lost
            failure = failure_of(response)
            if response.status_code not in REFUSED | UNCERTAIN:
                raise failure
            wanted = failure.retry_after
            certain = response.status_code in REFUSED
        may_have_acted |= not certain
        too_long = wanted is not None and wanted > retries.longest_pause
        if failures == retries.attempts or too_long or not (certain or exchange.repeatable):
            raise failure
        yield Pause(retries.pause(failures, wanted))
    raise AssertionError("it counts for ever")


def retry_after(response: httpx.Response) -> float | None:
    """Seconds that the server wants to be left alone for (RFC 9110, 10.2.3)."""
    told = response.headers.get("Retry-After", "")
    if told.isdigit():
        return float(told)
    try:
        moment = parsedate_to_datetime(told)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def failure_of(response: httpx.Response) -> HeadwaterError:
    """An answer that is an error, also if it is a proxy's and no problem."""
    problem = Problem(status=response.status_code, title=response.reason_phrase)
    if response.headers.get("Content-Type", "").startswith("application/problem+json"):
        with suppress(ValueError):
            problem = Problem.model_validate_json(response.content)
    return HeadwaterError(problem, retry_after(response))


def unreachable(error: httpx.RequestError) -> UnreachableError:
    """No answer at all."""
    detail = str(error) or type(error).__name__
    with suppress(RuntimeError):  # it was never a request
        detail = f"{error.request.url.copy_with(path='/', query=None)}: {detail}"
    return UnreachableError(client_problem("unreachable", "The server did not answer", detail))
