"""``client.attributions``: ask, follow, wait, and take the answer along."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Literal, TypedDict, Unpack

from headwater_client.answers import Document, body, body_as, no_body
from headwater_client.errors import HeadwaterError, JobError, JobFailedError, client_problem
from headwater_client.event_stream import Reading, following
from headwater_client.exchange import Flow, Pause
from headwater_client.listing import listing
from headwater_client.models.attribution import Attribution
from headwater_client.models.base import Page
from headwater_client.operation import Ask, Ref, Resource, Route, flow, operation
from headwater_client.pictures import PictureSource, read_picture
from headwater_client.retries import Retries
from headwater_client.runners import R
from headwater_client.waiting import OnProgress, until_ended, within

ATTRIBUTION = body_as(Attribution)
NOT_SIGNED_YET = "c2pa-not-ready"
SIGNING = Retries(longest_pause=30.0)  # a server that could not sign tries again in a minute


class Question(TypedDict, total=False):
    """What is asked, whatever the picture is; what is left out is the server's choice.

    ``wait`` are seconds (at most 60) that the server may take to answer with the end at once.
    ``expires_in`` are seconds after which the answer is not wanted any more.
    """

    model: str | None
    index: str | None
    method: str | None
    top_k: int
    candidates: Literal["exhaustive", "clip"]
    candidate_count: int
    priority: Literal["interactive", "batch"]
    expires_in: int | None
    webhook_url: str | None
    idempotency_key: str | None
    wait: int


class Attributions(Resource[R]):
    """Questions which training images pictures came from."""

    @operation("POST", "/v1/attributions")
    def ask_about_image(
        self, image: PictureSource, *, caption: str | None = None, **question: Unpack[Question]
    ) -> Ask[Attribution]:
        """Upload a picture: a path, bytes, an open file, or what Pillow has opened.

        ``caption`` is the prompt that it was made with, where that is known: it helps a lot.
        """
        fields = {"caption": caption, **_fields(question)}
        picture = read_picture(image)
        return Ask(
            ATTRIBUTION,
            form=fields,
            picture=picture,
            headers=_headers(question),
            patience=question.get("wait", 0),
        )

    @operation("POST", "/v1/attributions")
    def ask_about_prompt(
        self,
        prompt: str,
        *,
        seed: int | None = None,
        steps: int | None = None,
        guidance_scale: float | None = None,
        negative_prompt: str | None = None,
        **question: Unpack[Question],
    ) -> Ask[Attribution]:
        """Let the model draw a picture, and ask about that."""
        drawing = {
            "prompt": prompt,
            "seed": seed,
            "steps": steps,
            "guidance_scale": guidance_scale,
            "negative_prompt": negative_prompt,
        }
        return _as_json(drawing, question)

    @operation("POST", "/v1/attributions")
    def ask_about_url(
        self, image_url: str, *, caption: str | None = None, **question: Unpack[Question]
    ) -> Ask[Attribution]:
        """Let the server fetch a picture: https, from the open internet, without redirects."""
        return _as_json({"image_url": image_url, "caption": caption}, question)

    @operation("GET", "/v1/attributions/{attribution}")
    def get(self, attribution: Ref) -> Ask[Attribution]:
        """Where the work is now."""
        return Ask(ATTRIBUTION)

    @listing("/v1/attributions")
    def list(self, *, status: str | None = None, page_size: int = 50) -> Ask[Page[Attribution]]:
        """Attributions, newest first."""
        return Ask(body_as(Page[Attribution]), {"status": status, "limit": page_size})

    @flow
    def wait(
        self,
        attribution: Ref,
        *,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> Flow[Attribution]:
        """The attribution once it has succeeded.

        Looks as often as the server's ``Retry-After`` allows, and tells ``on_progress`` each time.
        A ``JobFailedError`` carries the problem of one that has failed, a ``JobError`` says that it
        was canceled or has expired; a ``WaitTimeoutError`` comes after ``timeout`` seconds.
        """
        path = self._path(attribution)
        ended = yield from within(timeout, until_ended(self.runner, path, ATTRIBUTION, on_progress))
        if ended.status == "succeeded":
            return ended
        problem = ended.problem or client_problem(
            "no-answer", f"The attribution {ended.id} has no answer", f"it is {ended.status}"
        )
        kind = JobFailedError if ended.status == "failed" else JobError
        raise kind(problem, ended.id, ended.status)

    @following("/v1/attributions/{attribution}/events")
    def events(self, route: Route, attribution: Ref, *, last_event_id: int = 0) -> Reading:
        """Every change of state from the first one on, as it happens, until the end.

        Connections that break are made again, and what was missed meanwhile is caught up with.
        ``last_event_id`` begins after an event that is known already.
        """
        exchange = route.exchange(Ask(no_body), {"attribution": attribution})
        return Reading(exchange, last_event_id, self.runner.retries)

    @operation("POST", "/v1/attributions/{attribution}/cancel")
    def cancel(self, attribution: Ref) -> Ask[Attribution]:
        """Stop the work; a worker that is at it notices within seconds."""
        return Ask(ATTRIBUTION)

    @operation("DELETE", "/v1/attributions/{attribution}")
    def delete(self, attribution: Ref) -> Ask[None]:
        """Stop the work and forget question, picture and answer."""
        return Ask(no_body)

    @operation("GET", "/v1/attributions/{attribution}/image")
    def image(self, attribution: Ref) -> Ask[bytes]:
        """The picture that was uploaded or drawn, as PNG."""
        return Ask(body)

    @operation("GET", "/v1/attributions/{attribution}/c2pa")
    def signed(
        self, attribution: Ref, form: Literal["embedded", "sidecar"] = "embedded"
    ) -> Ask[bytes]:
        """What ``c2pa`` gets, if it is signed already; a 404 problem else."""
        return Ask(body, {"form": form}, retries=SIGNING)

    @flow
    def c2pa(
        self,
        attribution: Ref,
        form: Literal["embedded", "sidecar"] = "embedded",
        *,
        timeout: float | None = 60.0,
    ) -> Flow[bytes]:
        """The picture with a signed manifest inside, or the manifest alone (``sidecar``).

        Signing follows the answer as a job of its own, which this waits for.
        """
        return (yield from within(timeout, self._once_signed(attribution, form)))

    @operation("GET", "/v1/attributions/{attribution}/prov")
    def prov(self, attribution: Ref) -> Ask[Document]:
        """The attribution as PROV-O, in JSON-LD."""
        return Ask(body_as(Document))

    @operation("GET", "/v1/attributions/{attribution}/receipt")
    def receipt(self, attribution: Ref) -> Ask[Document]:
        """What ``headwater verify`` computes the answer again from, to be kept as it is."""
        return Ask(body_as(Document))

    def _path(self, attribution: Ref) -> str:
        route = Route("GET", "/v1/attributions/{attribution}")
        return route.exchange(Ask(no_body), {"attribution": attribution}).path

    def _once_signed(self, attribution: Ref, form: Literal["embedded", "sidecar"]) -> Flow[bytes]:
        while True:
            try:
                return (yield from Attributions.signed.start(self, attribution, form))
            except HeadwaterError as error:
                if error.problem.kind != NOT_SIGNED_YET:
                    raise
                pause = error.retry_after
            yield Pause(pause or 1.0)


def _as_json(picture: Mapping[str, Any], question: Question) -> Ask[Attribution]:
    return Ask(
        ATTRIBUTION,
        json={**picture, **_fields(question)},
        headers=_headers(question),
        patience=question.get("wait", 0),
    )


def _fields(question: Question) -> dict[str, Any]:
    """What goes into the body."""
    aside = {"idempotency_key", "wait"}
    return {name: value for name, value in question.items() if name not in aside}


def _headers(question: Question) -> dict[str, str]:
    """A key of this call's own, so that however often it is sent there is one job."""
    headers = {"Idempotency-Key": question.get("idempotency_key") or uuid.uuid4().hex}
    if wait := question.get("wait"):
        headers["Prefer"] = f"wait={wait}"
    return headers
