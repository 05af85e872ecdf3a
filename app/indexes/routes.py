"""``/v1/indexes``."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Response

from app.access.caller import opens
from app.conditional import IfNoneMatch, tagged
from app.database.lookup import index_by_id
from app.dependencies import DatabaseDep, SettingsDep
from app.indexes import service
from app.indexes.schemas import IndexIn, IndexOut
from app.pages import Cursor, Limit, Page, cut_page
from app.problems import problem_responses

RETRY_AFTER = "2"

router = APIRouter(
    prefix="/v1/indexes", tags=["indexes"], dependencies=[Depends(opens("catalogue"))]
)


@router.post(
    "",
    status_code=202,
    responses={200: {"model": IndexOut}, **problem_responses(401, 403, 404, 409, 413)},
)
def build_index(
    wanted: IndexIn, response: Response, database: DatabaseDep, settings: SettingsDep
) -> IndexOut:
    """Start building an index; an equal one that is ready or being built is answered instead."""
    index, new = service.build(database, settings, wanted)
    response.status_code = 202 if new else 200
    response.headers["Location"] = f"/v1/indexes/{index.id}"
    if index.state == "building":
        response.headers["Retry-After"] = RETRY_AFTER
    with database.read() as session:
        return service.present(session, [index])[0]


@router.get("", responses=problem_responses(401, 403))
def list_indexes(database: DatabaseDep, cursor: Cursor = None, limit: Limit = 50) -> Page[IndexOut]:
    """Versions, newest first."""
    with database.read() as session:
        rows = service.page_of_indexes(session, cursor, limit)
        items, following = cut_page(rows, limit, lambda row: row.id)
        return Page(items=service.present(session, items), next_cursor=following)


@router.get(
    "/{index}",
    response_model=IndexOut,
    responses={304: {"description": "Not Modified"}, **problem_responses(401, 403, 404)},
)
def get_index(index: str, database: DatabaseDep, if_none_match: IfNoneMatch = None) -> Response:
    """One version, with the progress of its build; ``Retry-After`` until that has ended."""
    with database.read() as session:
        shown = service.present(session, [index_by_id(session, index)])[0]
    headers = {"Retry-After": RETRY_AFTER} if shown.state == "building" else {}
    return tagged(shown, if_none_match, headers)


@router.post("/{index}/activate", responses=problem_responses(401, 403, 404, 409))
def activate_index(index: str, database: DatabaseDep) -> IndexOut:
    """Let this version answer its model's questions."""
    found = service.activate_version(database, index)
    with database.read() as session:
        return service.present(session, [found])[0]


@router.post("/{index}/deactivate", responses=problem_responses(401, 403, 404))
def deactivate_index(index: str, database: DatabaseDep) -> IndexOut:
    """Let this version answer only questions that name it."""
    found = service.deactivate_version(database, index)
    with database.read() as session:
        return service.present(session, [found])[0]


@router.delete("/{index}", status_code=204, responses=problem_responses(401, 403, 404, 409))
def delete_index(index: str, database: DatabaseDep, settings: SettingsDep) -> None:
    """Delete a version and its files, unless it is active, being built, or has kept answers."""
    service.delete_version(database, settings, index)
