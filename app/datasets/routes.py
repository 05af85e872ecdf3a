"""``/v1/datasets``."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Depends, Header, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse

from app.access.caller import opens
from app.database.lookup import by_id_or_name
from app.database.tables import Dataset
from app.datasets import registration, service
from app.datasets.registration import LookedAt, Registered, Registering
from app.datasets.schemas import DatasetIn, DatasetOut, RefusedOut, SampleOut
from app.dependencies import DatabaseDep, SettingsDep
from app.pages import Cursor, Limit, Page, cut_page
from app.problems import ProblemError, problem_responses, unexpected_body

EVENTS = "text/event-stream"

logger = logging.getLogger(__name__)

router = APIRouter(
    prefix="/v1/datasets", tags=["datasets"], dependencies=[Depends(opens("catalogue"))]
)


@router.post(
    "",
    status_code=201,
    response_model=DatasetOut,
    responses={
        200: {"model": DatasetOut, "content": {EVENTS: {"schema": {"type": "string"}}}},
        **problem_responses(401, 403, 409, 413),
    },
)
def register_dataset(
    wanted: DatasetIn,
    database: DatabaseDep,
    settings: SettingsDep,
    accept: Annotated[str, Header()] = "",
) -> Response:
    """Register training images: each is read and decoded first.

    The same registration again answers 200.  With ``Accept: text/event-stream`` the answer is a
    stream: ``progress`` tells how far it is, ``dataset`` or ``problem`` is the end.  Who hangs up
    stops it, and nothing is registered.
    """
    steps = registration.registering(database, settings, wanted)
    if EVENTS not in accept:
        return _shown(registration.finish(steps))
    first = registration.advance(steps)
    if isinstance(first, Registered):  # it has been for long
        return _shown(first)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_told(first, steps), media_type=EVENTS, headers=headers)


def _shown(registered: Registered) -> Response:
    shown = DatasetOut.model_validate(registered.dataset)
    return JSONResponse(
        shown.model_dump(mode="json"),
        201 if registered.new else 200,
        {"Location": f"/v1/datasets/{shown.id}"},
    )


async def _told(step: LookedAt | Registered, steps: Registering) -> AsyncIterator[str]:
    """A registration as server-sent events; it is given up with them."""
    try:
        while isinstance(step, LookedAt):
            yield _event("progress", asdict(step))
            step = await run_in_threadpool(registration.advance, steps)
        shown = DatasetOut.model_validate(step.dataset)
        yield _event("dataset", shown.model_dump(mode="json"))
    except ProblemError as error:
        yield _event("problem", error.body)
    except Exception:
        logger.exception("a registration failed")
        yield _event("problem", unexpected_body())
    finally:
        with anyio.CancelScope(shield=True):
            await run_in_threadpool(steps.close)


def _event(name: str, data: Any) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


@router.get("", responses=problem_responses(401, 403))
def list_datasets(
    database: DatabaseDep, cursor: Cursor = None, limit: Limit = 50
) -> Page[DatasetOut]:
    """Datasets, newest first."""
    with database.read() as session:
        rows = service.page_of_datasets(session, cursor, limit)
    items, following = cut_page(rows, limit, lambda row: row.id)
    return Page(items=[DatasetOut.model_validate(row) for row in items], next_cursor=following)


@router.get("/{dataset}", responses=problem_responses(401, 403, 404))
def get_dataset(dataset: str, database: DatabaseDep) -> DatasetOut:
    """One dataset, by id or name."""
    with database.read() as session:
        return DatasetOut.model_validate(by_id_or_name(session, Dataset, dataset))


@router.delete("/{dataset}", status_code=204, responses=problem_responses(401, 403, 404, 409))
def delete_dataset(dataset: str, database: DatabaseDep, settings: SettingsDep) -> None:
    """Forget a dataset, unless it has an index or a takedown.  Its folder is left alone.

    Takedowns stay because they keep what was taken down from coming back.
    """
    service.delete_dataset(database, settings, dataset)


@router.get("/{dataset}/samples", responses=problem_responses(401, 403, 404))
def list_samples(
    dataset: str, database: DatabaseDep, cursor: Cursor = None, limit: Limit = 50
) -> Page[SampleOut]:
    """Its training images, by key."""
    with database.read() as session:
        found = by_id_or_name(session, Dataset, dataset)
        rows = service.page_of_samples(session, found.id, cursor, limit)
    items, following = cut_page(rows, limit, lambda row: row.key)
    return Page(items=[SampleOut.model_validate(row) for row in items], next_cursor=following)


@router.get("/{dataset}/refused", responses=problem_responses(401, 403, 404))
def list_refused(
    dataset: str, database: DatabaseDep, cursor: Cursor = None, limit: Limit = 50
) -> Page[RefusedOut]:
    """What its registration left out, and why."""
    with database.read() as session:
        found = by_id_or_name(session, Dataset, dataset)
        rows = service.page_of_refused(session, found.id, cursor, limit)
    items, following = cut_page(rows, limit, lambda row: str(row.number))
    return Page(items=[RefusedOut.model_validate(row) for row in items], next_cursor=following)


@router.get(
    "/{dataset}/samples/{key:path}/image",
    response_class=Response,
    responses={200: {"content": {"image/*": {}}}, **problem_responses(401, 403, 404, 410)},
)
def get_sample_image(
    dataset: str, key: str, database: DatabaseDep, settings: SettingsDep
) -> Response:
    """The picture itself, as it was registered."""
    with database.read() as session:
        content = service.sample_content(session, settings, dataset, key)
    headers = {"X-Content-Type-Options": "nosniff"}
    return Response(content, media_type=service.media_type(content), headers=headers)


@router.get(
    "/{dataset}/samples/{key:path}/thumbnail",
    response_class=FileResponse,
    responses={
        200: {"content": {"image/png": {}}},
        **problem_responses(401, 403, 404, 410, 413, 415),
    },
)
def get_sample_thumbnail(
    dataset: str, key: str, database: DatabaseDep, settings: SettingsDep
) -> FileResponse:
    """The picture at most 128 pixels wide and high; made when it is first asked for."""
    with database.read() as session:
        content = service.sample_content(session, settings, dataset, key)
    thumbnail = service.thumbnail(content, settings)
    with database.read() as session:
        service.keep_only_if_there(session, dataset, key, thumbnail)
    return FileResponse(thumbnail, media_type="image/png")
