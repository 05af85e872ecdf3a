"""Waiting for work: looking as often as the server allows, no longer than the caller wants."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol, TypeVar

import httpx

from headwater_client.errors import WaitTimeoutError, client_problem
from headwater_client.exchange import Exchange, Flow, Pause
from headwater_client.models.base import Progress
from headwater_client.models.problem import Problem
from headwater_client.retries import persist, retry_after
from headwater_client.runners import AsyncRunner, Runner

T = TypeVar("T")
OnProgress = Callable[[Progress], None]
USUAL_PAUSE = 1.0
LEAST_SECONDS = 1.0  # for the last look


class Work(Protocol):
    """Something that goes on at the server."""

    @property
    def ended(self) -> bool:
        """Whether nothing more is to come."""

    @property
    def progress(self) -> Progress:
        """How far it is."""


W = TypeVar("W", bound=Work)


def until_ended(
    runner: Runner | AsyncRunner,
    path: str,
    read: Callable[[httpx.Response], W],
    on_progress: OnProgress | None,
) -> Flow[W]:
    """What is at a path once it has ended; ``on_progress`` is told after each look.

    What has not changed since the last look is not sent again (``ETag``).
    """
    found: W | None = None
    look = Exchange("GET", path)
    while found is None or not found.ended:
        response = yield from persist(look, runner.retries)
        if found is None or response.status_code != httpx.codes.NOT_MODIFIED:
            found = read(response)
        if on_progress:
            on_progress(found.progress)
        if "ETag" in response.headers:
            look = replace(look, headers={"If-None-Match": response.headers["ETag"]})
        if not found.ended:
            yield Pause(retry_after(response) or USUAL_PAUSE)
    return found


def within(seconds: float | None, steps: Flow[T]) -> Flow[T]:
    """A flow that ends in a ``WaitTimeoutError`` rather than pause beyond some seconds.

    It looks at least once, and once more when the time is over.
    """
    if seconds is None:
        return (yield from steps)
    deadline = time.monotonic() + seconds
    try:
        step = next(steps)
        while True:
            left = deadline - time.monotonic()
            if isinstance(step, Pause):
                if left <= 0:
                    raise WaitTimeoutError(too_late(seconds))
                yield replace(step, seconds=min(step.seconds, left))
                step = next(steps)
                continue
            try:
                response = yield replace(step, at_most=max(left, LEAST_SECONDS))
            except httpx.RequestError as error:
                step = steps.throw(error)
            else:
                step = steps.send(response)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        steps.close()


def too_late(seconds: float) -> Problem:
    """The problem of work that takes longer than one waits."""
    title = "The work has not ended in time"
    return client_problem("wait-timeout", title, f"waited {seconds:g} s")
