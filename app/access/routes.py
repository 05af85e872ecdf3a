"""``/v1/api-keys``."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Response

from app.access import keys
from app.access.caller import CallerDep, opens
from app.access.schemas import ApiKeyIn, ApiKeyOut, NewApiKey
from app.dependencies import DatabaseDep
from app.pages import Cursor, Limit, Page, cut_page
from app.problems import ProblemError, problem_responses

router = APIRouter(prefix="/v1/api-keys", tags=["keys"], dependencies=[Depends(opens("keys"))])


@router.post("", status_code=201, responses=problem_responses(401, 403, 413))
def create_key(
    wanted: ApiKeyIn, response: Response, caller: CallerDep, database: DatabaseDep
) -> NewApiKey:
    """Make a key for one's own tenant; its secret is shown this once."""
    beyond = sorted(set(wanted.scopes) - caller.scopes)
    if beyond:
        raise ProblemError(
            403, "scope-missing", "The API key does not allow this", f"it lacks {', '.join(beyond)}"
        )
    with database.write() as session:
        key, secret = keys.create(session, wanted.name, wanted.scopes, wanted.expires_at)
        session.flush()
        shown = ApiKeyOut.model_validate(key)
    response.headers["Location"] = f"/v1/api-keys/{key.id}"
    response.headers["Cache-Control"] = "no-store"
    return NewApiKey(**shown.model_dump(), secret=secret)


@router.get("", responses=problem_responses(401, 403))
def list_keys(database: DatabaseDep, cursor: Cursor = None, limit: Limit = 50) -> Page[ApiKeyOut]:
    """Keys, newest first, revoked ones too."""
    with database.read() as session:
        rows = keys.page(session, cursor, limit)
    items, following = cut_page(rows, limit, lambda row: row.id)
    return Page(items=[ApiKeyOut.model_validate(row) for row in items], next_cursor=following)


@router.delete("/{key}", responses=problem_responses(401, 403, 404))
def revoke_key(key: str, database: DatabaseDep) -> ApiKeyOut:
    """Close a key for ever, from the next request on."""
    with database.write() as session:
        return ApiKeyOut.model_validate(keys.revoke(session, key))
