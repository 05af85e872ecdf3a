"""``/v1/takedowns``."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Response

from app.access.caller import opens
from app.dependencies import DatabaseDep, SettingsDep
from app.pages import Cursor, Limit, Page, cut_page
from app.problems import problem_responses
from app.takedowns import service
from app.takedowns.schemas import TakedownIn, TakedownOut

router = APIRouter(
    prefix="/v1/takedowns", tags=["takedowns"], dependencies=[Depends(opens("catalogue"))]
)


@router.post("", status_code=202, responses=problem_responses(401, 403, 404, 410, 413))
def take_down(
    wanted: TakedownIn, response: Response, database: DatabaseDep, settings: SettingsDep
) -> TakedownOut:
    """Take images down, and what has the same content elsewhere.  No answer names them from now on.

    A job then removes them from index files, old answers, thumbnails and exports.  The same content
    is left out of datasets that are registered later.
    """
    takedown = service.take_down(database, settings, wanted)
    response.headers["Location"] = f"/v1/takedowns/{takedown.id}"
    return takedown


@router.get("", responses=problem_responses(401, 403))
def list_takedowns(
    database: DatabaseDep, cursor: Cursor = None, limit: Limit = 50
) -> Page[TakedownOut]:
    """Takedowns, newest first."""
    with database.read() as session:
        rows = service.page(session, cursor, limit)
        items, following = cut_page(rows, limit, lambda row: row.id)
        return Page(items=[service.present(session, row) for row in items], next_cursor=following)


@router.get("/{takedown}", responses=problem_responses(401, 403, 404))
def get_takedown(takedown: str, database: DatabaseDep) -> TakedownOut:
    """One takedown, with the progress of its job."""
    with database.read() as session:
        return service.present(session, service.find(session, takedown))


@router.post("/{takedown}/retry", status_code=202, responses=problem_responses(401, 403, 404, 409))
def retry_takedown(takedown: str, database: DatabaseDep, settings: SettingsDep) -> TakedownOut:
    """Go on with a takedown whose job has failed, once its reason is put right."""
    return service.retry(database, settings, takedown)
