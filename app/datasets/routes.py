"""``/v1/datasets``."""

from __future__ import annotations

import mimetypes

from fastapi import APIRouter, Depends, Response
from fastapi.responses import FileResponse

from app.access.caller import opens
from app.database.lookup import by_id_or_name
from app.database.tables import Dataset
from app.datasets import service
from app.datasets.schemas import DatasetIn, DatasetOut, SampleOut
from app.dependencies import DatabaseDep, SettingsDep
from app.pages import Cursor, Limit, Page, cut_page
from app.problems import problem_responses

router = APIRouter(
    prefix="/v1/datasets", tags=["datasets"], dependencies=[Depends(opens("catalogue"))]
)


@router.post(
    "",
    status_code=201,
    responses={200: {"model": DatasetOut}, **problem_responses(401, 403, 409, 413)},
)
def register_dataset(
    wanted: DatasetIn, response: Response, database: DatabaseDep, settings: SettingsDep
) -> DatasetOut:
    """Register a folder of training images, with or without ``metadata.jsonl``."""
    dataset, new = service.register(database, settings, wanted)
    response.status_code = 201 if new else 200
    response.headers["Location"] = f"/v1/datasets/{dataset.id}"
    return DatasetOut.model_validate(dataset)


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


@router.get(
    "/{dataset}/samples/{key:path}/image",
    response_class=FileResponse,
    responses={200: {"content": {"image/*": {}}}, **problem_responses(401, 403, 404, 410)},
)
def get_sample_image(
    dataset: str, key: str, database: DatabaseDep, settings: SettingsDep
) -> FileResponse:
    """The picture itself, as it lies in the folder."""
    with database.read() as session:
        file = service.sample_file(session, settings, dataset, key)
    media_type = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    return FileResponse(file, media_type=media_type, headers={"X-Content-Type-Options": "nosniff"})


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
        file = service.sample_file(session, settings, dataset, key)
    thumbnail = service.thumbnail(file, settings)
    with database.read() as session:
        service.keep_only_if_there(session, dataset, key, thumbnail)
    return FileResponse(thumbnail, media_type="image/png")
