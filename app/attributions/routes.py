"""``/v1/attributions``."""

from __future__ import annotations

import re
import time
from typing import Annotated

import anyio
from fastapi import APIRouter, Depends, Header, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, JSONResponse

from app.access.caller import opens
from app.attributions import repository, service
from app.attributions.idempotency import IdempotencyKey
from app.attributions.schemas import TERMINAL, AttributionOut, PromptQuestion, Status, UrlQuestion
from app.attributions.submission import REQUEST_BODY, ImageSubmission, read_submission
from app.conditional import IfNoneMatch, tagged
from app.database.engine import TenantDatabase
from app.dependencies import DatabaseDep, ImagesDep, SettingsDep
from app.pages import Cursor, Limit, Page, cut_page
from app.problems import ProblemError, problem_responses

RETRY_AFTER = "1"
LONGEST_WAIT = 60
POLL_SECONDS = 0.2

router = APIRouter(
    prefix="/v1/attributions", tags=["attributions"], dependencies=[Depends(opens("attributions"))]
)

Submission = Annotated[ImageSubmission | UrlQuestion | PromptQuestion, Depends(read_submission)]


@router.post(
    "",
    status_code=202,
    response_model=AttributionOut,
    openapi_extra=REQUEST_BODY,
    responses={
        200: {"model": AttributionOut},
        **problem_responses(401, 403, 404, 409, 410, 413, 415),
    },
)
async def attribute(
    submission: Submission,
    database: DatabaseDep,
    settings: SettingsDep,
    images: ImagesDep,
    prefer: Annotated[str | None, Header()] = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Ask which training images a picture came from.

    Send a picture as a form, or a prompt or a picture's URL as JSON.  Answers 202 at once; with
    ``Prefer: wait=N`` (seconds, at most 60) it answers 200 if the attribution ends in time.
    """
    if isinstance(submission, PromptQuestion):
        job = await run_in_threadpool(
            service.ask_about_prompt, database, settings, submission, idempotency_key
        )
    elif isinstance(submission, UrlQuestion):
        job = await run_in_threadpool(
            service.ask_about_url, database, settings, images, submission, idempotency_key
        )
    else:
        job = await run_in_threadpool(
            service.ask_about_image,
            database,
            settings,
            images,
            submission.question,
            submission.content,
            idempotency_key,
        )
    if job.deleted_at is not None:
        raise ProblemError(410, "attribution-deleted", "The attribution was deleted")
    wait = wait_seconds(prefer)
    shown = await _when_ended(database, job.id, wait) if wait else service.present(job)
    headers = {"Location": shown.urls.self}
    if wait:
        headers["Preference-Applied"] = f"wait={wait}"
    if shown.status in TERMINAL:
        return _json(shown, 200, headers)
    return _json(shown, 202, headers | {"Retry-After": RETRY_AFTER})


@router.get("", responses=problem_responses(401, 403))
def list_attributions(
    database: DatabaseDep,
    status: Status | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[AttributionOut]:
    """Attributions, newest first."""
    with database.read() as session:
        rows = repository.page(session, status, cursor, limit)
    items, following = cut_page(rows, limit, lambda job: job.id)
    return Page(items=[service.present(job) for job in items], next_cursor=following)


@router.get(
    "/{attribution}",
    response_model=AttributionOut,
    responses={304: {"description": "Not Modified"}, **problem_responses(401, 403, 404, 410)},
)
def get_attribution(
    attribution: str, database: DatabaseDep, if_none_match: IfNoneMatch = None
) -> Response:
    """One attribution; ``Retry-After`` until it has ended."""
    with database.read() as session:
        shown = service.present(repository.find(session, attribution))
    headers = {} if shown.status in TERMINAL else {"Retry-After": RETRY_AFTER}
    return tagged(shown, if_none_match, headers)


@router.post("/{attribution}/cancel", responses=problem_responses(401, 403, 404, 409, 410))
def cancel_attribution(attribution: str, database: DatabaseDep) -> AttributionOut:
    """Stop an attribution; its worker notices within seconds."""
    return service.present(service.cancel_attribution(database, attribution))


@router.delete("/{attribution}", status_code=204, responses=problem_responses(401, 403, 404, 410))
def delete_attribution(attribution: str, database: DatabaseDep, settings: SettingsDep) -> None:
    """Stop an attribution and forget it: question, picture and answer.  It answers 410 then."""
    service.delete_attribution(database, settings, attribution)


@router.get(
    "/{attribution}/image",
    response_class=FileResponse,
    responses={200: {"content": {"image/png": {}}}, **problem_responses(401, 403, 404, 410)},
)
def get_attribution_image(
    attribution: str, database: DatabaseDep, images: ImagesDep
) -> FileResponse:
    """The picture that was uploaded or drawn."""
    with database.read() as session:
        digest = repository.find(session, attribution).image_digest
    if digest is None:
        raise ProblemError(404, "image-not-drawn", "The picture has not been drawn")
    return FileResponse(images.path(digest), media_type="image/png")


def wait_seconds(prefer: str | None) -> int:
    """N of ``Prefer: wait=N`` (RFC 7240), at most 60; 0 where it is not asked for."""
    found = re.search(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})", prefer or "", re.IGNORECASE)
    return min(int(found[1]), LONGEST_WAIT) if found else 0


async def _when_ended(database: TenantDatabase, job_id: str, seconds: int) -> AttributionOut:
    """The attribution at its end, or after some seconds; no thread is held while waiting."""

    def look() -> AttributionOut:
        with database.read() as session:
            return service.present(repository.find(session, job_id))

    deadline = time.monotonic() + seconds
    shown = await run_in_threadpool(look)
    while shown.status not in TERMINAL and time.monotonic() < deadline:
        await anyio.sleep(POLL_SECONDS)
        shown = await run_in_threadpool(look)
    return shown


def _json(shown: AttributionOut, status: int, headers: dict[str, str]) -> JSONResponse:
    return JSONResponse(shown.model_dump(mode="json"), status, headers)
