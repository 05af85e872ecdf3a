"""``/v1/models``."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Response

from app.access.caller import opens
from app.database.lookup import by_id_or_name
from app.database.tables import Model
from app.dependencies import DatabaseDep, SettingsDep
from app.evidence import service as evidence
from app.evidence.schemas import EvidenceIn, EvidenceOut
from app.models import service
from app.models.schemas import ModelIn, ModelOut
from app.pages import Cursor, Limit, Page, cut_page
from app.problems import problem_responses

router = APIRouter(prefix="/v1/models", tags=["models"], dependencies=[Depends(opens("catalogue"))])


@router.post(
    "",
    status_code=201,
    responses={200: {"model": ModelOut}, **problem_responses(401, 403, 409, 413)},
)
def register_model(
    wanted: ModelIn, response: Response, database: DatabaseDep, settings: SettingsDep
) -> ModelOut:
    """Register a diffusers directory with safetensors weights."""
    model, new = service.register(database, settings, wanted)
    response.status_code = 201 if new else 200
    response.headers["Location"] = f"/v1/models/{model.id}"
    return ModelOut.model_validate(model)


@router.get("", responses=problem_responses(401, 403))
def list_models(database: DatabaseDep, cursor: Cursor = None, limit: Limit = 50) -> Page[ModelOut]:
    """Models, newest first."""
    with database.read() as session:
        rows = service.page_of_models(session, cursor, limit)
    items, following = cut_page(rows, limit, lambda row: row.id)
    return Page(items=[ModelOut.model_validate(row) for row in items], next_cursor=following)


@router.get("/{model}", responses=problem_responses(401, 403, 404))
def get_model(model: str, database: DatabaseDep) -> ModelOut:
    """One model, by id or name."""
    with database.read() as session:
        return ModelOut.model_validate(by_id_or_name(session, Model, model))


@router.delete("/{model}", status_code=204, responses=problem_responses(401, 403, 404, 409))
def delete_model(model: str, database: DatabaseDep) -> None:
    """Forget a model and its evidence, unless it has an index.  Its directory is left alone."""
    service.delete(database, model)


@router.post(
    "/{model}/evidence", status_code=201, responses=problem_responses(401, 403, 404, 409, 413)
)
def record_evidence(model: str, wanted: EvidenceIn, database: DatabaseDep) -> list[EvidenceOut]:
    """Keep what ``headwater evaluate lds`` measured; indexes and answers then carry it."""
    rows = evidence.record(database, model, wanted)
    return [EvidenceOut.model_validate(row) for row in rows]


@router.get("/{model}/evidence", responses=problem_responses(401, 403, 404))
def get_evidence(model: str, database: DatabaseDep) -> list[EvidenceOut]:
    """How good the model's methods were measured to be, under any configuration."""
    with database.read() as session:
        return [EvidenceOut.model_validate(row) for row in evidence.of_model(session, model)]
