"""RFC 9457: every error is ``application/problem+json``, also the one inside a failed job."""

from __future__ import annotations

import logging
import sqlite3
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from sqlalchemy.exc import DataError, IntegrityError, OperationalError
from starlette.exceptions import HTTPException

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = {"description": "Seconds until a request may succeed", "schema": {"type": "integer"}}

logger = logging.getLogger(__name__)


class ProblemDetails(BaseModel):
    """The body of every error."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str | None = None


class ProblemError(Exception):
    """An error for the client; ``slug`` names its kind, for programs."""

    def __init__(
        self,
        status: int,
        slug: str,
        title: str,
        detail: str | None = None,
        *,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail or title)
        self.status = status
        self.headers = headers
        self.body = problem_body(status, slug, title, detail)


def problem_body(
    status: int, slug: str, title: str, detail: str | None = None, **members: Any
) -> dict[str, Any]:
    """The members of a problem; ``about:blank`` where the status says all (empty ``slug``)."""
    details = ProblemDetails(
        type=f"urn:headwater:problem:{slug}" if slug else "about:blank",
        title=title,
        status=status,
        detail=detail,
        **members,
    )
    return details.model_dump(exclude_none=True)


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of a route's errors."""
    schema = {"$ref": "#/components/schemas/ProblemDetails"}
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": schema}},
            **({"headers": {"Retry-After": RETRY_AFTER}} if status in (429, 503) else {}),
        }
        for status in (*statuses, 422, 429, 500, 503)
    }


def install(app: FastAPI) -> None:
    """Make the application's own errors problems too."""
    app.add_exception_handler(ProblemError, _problem)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(DataError, _unstorable)
    app.add_exception_handler(IntegrityError, _changed_meanwhile)
    app.add_exception_handler(OperationalError, _database_away)
    _describe(app)


def _describe(app: FastAPI) -> None:
    """Put the schema that every error refers to into the application's OpenAPI document."""
    written = app.openapi

    def openapi() -> dict[str, Any]:
        document = written()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas.setdefault("ProblemDetails", ProblemDetails.model_json_schema())
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _response(body: dict[str, Any], headers: Any = None) -> JSONResponse:
    return JSONResponse(body, body["status"], headers, MEDIA_TYPE)


async def _problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ProblemError)
    return _response(error.body, error.headers)


async def _http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    title = HTTPStatus(error.status_code).phrase
    detail = None if error.detail == title else error.detail
    return _response(problem_body(error.status_code, "", title, detail), error.headers)


async def _invalid_request(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return _response(validation_problem(error.errors()))


def validation_problem(errors: Any) -> dict[str, Any]:
    """Where and why each field was refused; values are left out, for they may be private."""
    fields = [{"field": ".".join(map(str, item["loc"])), "message": item["msg"]} for item in errors]
    detail = "; ".join(f"{item['field']}: {item['message']}" for item in fields)
    return problem_body(422, "invalid-request", "The request is not valid", detail, errors=fields)


async def _unstorable(request: Request, error: Exception) -> JSONResponse:
    # PostgreSQL's text takes no NUL, wherever in a request it stands; SQLite's does.
    logger.info("the database cannot take a value")
    return _response(problem_body(422, "value-unstorable", "A value cannot be stored"))


async def _database_away(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, OperationalError)
    if isinstance(error.orig, sqlite3.Error) and "no such" in str(error.orig):
        raise error  # SQLite's word for a missing table too
    # It restarts, or is out of reach: nothing is wrong with the request.
    logger.warning("the database cannot be used", exc_info=error)
    body = problem_body(503, "database-unreachable", "The database cannot be reached")
    return _response(body, {"Retry-After": "5"})


async def _changed_meanwhile(request: Request, error: Exception) -> JSONResponse:
    # An index that is deleted while it is asked, for example.
    logger.warning("a row's neighbour went away on %s", request.url.path)
    title = "Something that the request names was changed at this moment"
    return _response(problem_body(409, "changed-meanwhile", title), {"Retry-After": "1"})


def unexpected() -> JSONResponse:
    """The answer to a request that met a fault of ours (``app/requests.py`` tells of it)."""
    return _response(unexpected_body())


def unexpected_body() -> dict[str, Any]:
    """The problem that is a fault of ours."""
    detail = "The server's log says more."
    return problem_body(500, "internal-error", "Internal Server Error", detail)
