"""``client.indexes``: build, wait, activate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headwater_client.answers import body_as, no_body
from headwater_client.errors import JobFailedError, client_problem
from headwater_client.exchange import Flow
from headwater_client.listing import listing
from headwater_client.models.base import Page
from headwater_client.models.index import Index
from headwater_client.operation import Ask, Ref, Resource, Route, flow, identifier, operation
from headwater_client.runners import R
from headwater_client.waiting import OnProgress, until_ended, within

INDEX = body_as(Index)


class Indexes(Resource[R]):
    """Versions of indexes of training sets."""

    @operation("POST", "/v1/indexes")
    def build(
        self,
        model: Ref,
        dataset: Ref,
        *,
        method: str | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> Ask[Index]:
        """Start building; an equal one that is ready or being built is answered instead.

        ``method`` is one that it shall answer; ``config`` says how its knobs differ from that
        method's own.
        """
        wanted = {
            "model": identifier(model),
            "dataset": identifier(dataset),
            "method": method,
            "config": config,
        }
        return Ask(INDEX, json=wanted)

    @operation("GET", "/v1/indexes/{index}")
    def get(self, index: Ref) -> Ask[Index]:
        """A version, with the progress of its build."""
        return Ask(INDEX)

    @listing("/v1/indexes")
    def list(self, *, page_size: int = 50) -> Ask[Page[Index]]:
        """Versions, newest first."""
        return Ask(body_as(Page[Index]), {"limit": page_size})

    @flow
    def wait(
        self, index: Ref, *, timeout: float | None = None, on_progress: OnProgress | None = None
    ) -> Flow[Index]:
        """The version once it is ready.

        A ``JobFailedError`` carries the problem of a build that has failed; a ``WaitTimeoutError``
        comes after ``timeout`` seconds.
        """
        look = Route("GET", "/v1/indexes/{index}").exchange(Ask(INDEX), {"index": index})
        built = yield from within(timeout, until_ended(self.runner, look.path, INDEX, on_progress))
        if built.state == "ready":
            return built
        problem = built.problem or client_problem(
            "no-index", f"The index {built.id} is not ready", f"it is {built.state}"
        )
        raise JobFailedError(problem, built.id, built.state)

    @operation("POST", "/v1/indexes/{index}/activate")
    def activate(self, index: Ref) -> Ask[Index]:
        """Let a version answer its model's questions."""
        return Ask(INDEX)

    @operation("POST", "/v1/indexes/{index}/deactivate")
    def deactivate(self, index: Ref) -> Ask[Index]:
        """Let a version answer only questions that name it."""
        return Ask(INDEX)

    @operation("DELETE", "/v1/indexes/{index}")
    def delete(self, index: Ref) -> Ask[None]:
        """Delete a version and its files, unless something needs it."""
        return Ask(no_body)
