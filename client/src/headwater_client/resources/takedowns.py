"""``client.takedowns``: images that no answer shall name any more."""

from __future__ import annotations

from collections.abc import Sequence

from headwater_client.answers import body_as
from headwater_client.errors import JobError, JobFailedError, client_problem
from headwater_client.exchange import Flow
from headwater_client.listing import listing
from headwater_client.models.base import Page
from headwater_client.models.takedown import Takedown
from headwater_client.operation import Ask, Ref, Resource, Route, flow, identifier, operation
from headwater_client.runners import R
from headwater_client.waiting import OnProgress, until_ended, within

TAKEDOWN = body_as(Takedown)


class Takedowns(Resource[R]):
    """Takedowns of training images."""

    @operation("POST", "/v1/takedowns")
    def create(
        self,
        dataset: Ref,
        *,
        keys: Sequence[str] | None = None,
        creator: str | None = None,
        reason: str | None = None,
    ) -> Ask[Takedown]:
        """Take images down, by keys or all of one creator's.  No answer names them from now on.

        What is down already is a 410 problem, so this is sent again only if nobody has heard it.
        """
        wanted = {
            "dataset": identifier(dataset),
            "keys": None if keys is None else list(keys),
            "creator": creator,
            "reason": reason,
        }
        return Ask(TAKEDOWN, json=wanted, repeatable=False)

    @operation("GET", "/v1/takedowns/{takedown}")
    def get(self, takedown: Ref) -> Ask[Takedown]:
        """A takedown, with the progress of its job."""
        return Ask(TAKEDOWN)

    @listing("/v1/takedowns")
    def list(self, *, page_size: int = 50) -> Ask[Page[Takedown]]:
        """Takedowns, newest first."""
        return Ask(body_as(Page[Takedown]), {"limit": page_size})

    @flow
    def wait(
        self, takedown: Ref, *, timeout: float | None = None, on_progress: OnProgress | None = None
    ) -> Flow[Takedown]:
        """The takedown once the images are out of all files too; errors as of an attribution."""
        route = Route("GET", "/v1/takedowns/{takedown}")
        look = route.exchange(Ask(TAKEDOWN), {"takedown": takedown})
        ended = yield from within(
            timeout, until_ended(self.runner, look.path, TAKEDOWN, on_progress)
        )
        if ended.status == "succeeded":
            return ended
        problem = ended.problem or client_problem(
            "not-done", f"The takedown {ended.id} is not done", f"it is {ended.status}"
        )
        kind = JobFailedError if ended.status == "failed" else JobError
        raise kind(problem, ended.id, ended.status)

    @operation("POST", "/v1/takedowns/{takedown}/retry")
    def retry(self, takedown: Ref) -> Ask[Takedown]:
        """Go on with one whose job has failed, once its reason is put right."""
        return Ask(TAKEDOWN, repeatable=False)
