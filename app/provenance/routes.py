"""An attribution in other programs' words: ``…/c2pa``, ``…/prov``, ``…/receipt``."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Depends
from fastapi.responses import FileResponse, JSONResponse

from app.access.caller import opens
from app.attributions import repository
from app.database.engine import TenantDatabase
from app.dependencies import DatabaseDep, SettingsDep
from app.problems import ProblemError, problem_responses
from app.provenance.assertion import schema
from app.provenance.prov import MEDIA_TYPE as JSON_LD
from app.provenance.prov import prov
from app.provenance.receipt import Receipt, receipt
from app.provenance.record import Record, read_record
from app.provenance.signatures import why_unsigned
from app.storage import Exports

C2PA_MANIFEST = "application/c2pa"

router = APIRouter(
    prefix="/v1/attributions", tags=["provenance"], dependencies=[Depends(opens("attributions"))]
)
schemas = APIRouter(prefix="/schemas", tags=["provenance"])  # for everybody

ERRORS = problem_responses(401, 403, 404, 409, 410)


@router.get(
    "/{attribution}/c2pa",
    response_class=FileResponse,
    responses={200: {"content": {"image/png": {}, C2PA_MANIFEST: {}}}, **ERRORS},
)
def get_c2pa(
    attribution: str,
    database: DatabaseDep,
    settings: SettingsDep,
    form: Literal["embedded", "sidecar"] = "embedded",
) -> FileResponse:
    """The picture with a signed manifest inside, or the manifest alone.

    The sidecar belongs to the picture at ``…/image``.  Signing is a job of its own that follows the
    answer, or this request where that was before the installation signed.  Until it is done this
    is a 404 with ``Retry-After``, and a 503 where it has failed.
    """
    _record(database, attribution)
    if settings.c2pa_certificate is None:
        raise ProblemError(
            404, "c2pa-not-configured", "This installation does not sign", "it has no certificate"
        )
    exports = Exports(settings.home)
    file = exports.picture(attribution) if form == "embedded" else exports.sidecar(attribution)
    if not file.is_file():
        raise why_unsigned(database, settings, attribution)
    media_type = "image/png" if form == "embedded" else C2PA_MANIFEST
    return FileResponse(file, media_type=media_type)


@router.get(
    "/{attribution}/prov",
    response_class=JSONResponse,
    responses={200: {"content": {JSON_LD: {"schema": {"type": "object"}}}}, **ERRORS},
)
def get_prov(attribution: str, database: DatabaseDep) -> JSONResponse:
    """The attribution as PROV-O, in JSON-LD."""
    return JSONResponse(prov(_record(database, attribution)), media_type=JSON_LD)


@router.get("/{attribution}/receipt", response_model_exclude_unset=True, responses=ERRORS)
def get_receipt(attribution: str, database: DatabaseDep) -> Receipt:
    """What ``headwater verify`` needs to compute the answer again."""
    return receipt(_record(database, attribution))


@schemas.get("/training-attribution/1")
def get_schema() -> dict[str, Any]:
    """The JSON schema of the C2PA assertion."""
    return schema()


def _record(database: TenantDatabase, attribution: str) -> Record:
    with database.read() as session:
        return read_record(session, repository.find(session, attribution))
