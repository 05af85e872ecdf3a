"""Registering models."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sql
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.allowed_paths import allowed_directory, allowed_path
from app.config import Settings
from app.database.engine import TenantDatabase
from app.database.lookup import by_id_or_name
from app.database.tables import Evidence, IndexVersion, Model
from app.identifiers import new_id
from app.models.schemas import ModelIn
from app.problems import ProblemError
from attribution.model_directory import (
    CLIP_WEIGHTS,
    DenoiserError,
    check_parts,
    model_digest,
    safe_weights_digest,
)

CONTENT = ("directory", "lora", "clip_directory", "digest", "clip_digest", "pipeline_class")


def register(database: TenantDatabase, settings: Settings, wanted: ModelIn) -> tuple[Model, bool]:
    """Look at the directories and write the model's row; the flag says whether it is new.

    The same name again is the same model if paths and weights are equal, and else a problem.
    """
    directory = allowed_directory(wanted.path, settings.model_roots)
    clip_directory = allowed_directory(wanted.clip_path, settings.model_roots)
    lora = allowed_path(wanted.lora_path, settings.model_roots) if wanted.lora_path else None
    try:
        model = Model(
            id=new_id("mdl"),
            name=wanted.name,
            directory=str(directory),
            lora=str(lora) if lora else None,
            clip_directory=str(clip_directory),
            pipeline_class=check_parts(directory),
            digest=model_digest(directory, lora),
            clip_digest=safe_weights_digest(clip_directory, CLIP_WEIGHTS),
        )
    except DenoiserError as error:
        raise ProblemError(
            422, "model-unusable", "The directory cannot be used as a model", str(error)
        ) from None
    with database.read() as session:
        query = select(Model).where(Model.name == wanted.name)
        if known := session.scalars(query).one_or_none():
            return _same(known, model), False
    try:
        with database.write() as session:
            session.add(model)
    except IntegrityError:
        # Somebody registered the name since we looked.
        with database.read() as session:
            return _same(by_id_or_name(session, Model, wanted.name), model), False
    return model, True


def page_of_models(session: Session, cursor: str | None, limit: int) -> Sequence[Model]:
    """Models, newest first, one more than ``limit`` where there are more."""
    query = select(Model).order_by(Model.id.desc()).limit(limit + 1)
    if cursor:
        query = query.where(Model.id < cursor)
    return session.scalars(query).all()


def delete(database: TenantDatabase, wanted: str) -> None:
    """Forget a model and what was measured of it; a 409 problem if it has an index."""
    with database.write() as session:
        model = by_id_or_name(session, Model, wanted, "own")
        if session.scalars(
            select(IndexVersion.id).where(IndexVersion.model_id == model.id)
        ).first():
            raise ProblemError(
                409, "model-needed", "The model is needed", "it has indexes: delete them first"
            )
        session.execute(sql.delete(Evidence).where(Evidence.model_id == model.id))
        session.delete(model)


def _same(known: Model, wanted: Model) -> Model:
    if any(getattr(known, field) != getattr(wanted, field) for field in CONTENT):
        raise ProblemError(
            409,
            "model-exists",
            "Another model has this name",
            f"{known.name!r} is {known.id}, registered with other content",
        )
    return known
