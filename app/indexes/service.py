"""Starting index builds and saying how far they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.config import Settings
from app.database.engine import TenantDatabase
from app.database.lookup import by_id_or_name, index_by_id
from app.database.tables import Dataset, IndexVersion, Job, Model, Sample
from app.evidence import service as evidence
from app.evidence.schemas import EvidenceOut
from app.identifiers import new_id
from app.indexes.directories import directory_of, discard
from app.indexes.methods import served_methods
from app.indexes.schemas import IndexIn, IndexOut, IndexUrls, Progress
from app.jobs.index_builds import activate
from app.jobs.kinds import ATTRIBUTION, BUILD, INDEX_FINALISE, INDEX_SHARD
from app.jobs.overload import full_disk
from app.jobs.submission import submit
from app.problems import ProblemError
from attribution.index.config import IndexConfig


def build(
    database: TenantDatabase, settings: Settings, wanted: IndexIn
) -> tuple[IndexVersion, bool]:
    """Submit a build, one job a shard; the flag is False where an equal one is there already."""
    try:
        with database.write() as session:
            # A takedown or deletion comes before this or after it.
            model = by_id_or_name(session, Model, wanted.model, "share")
            dataset = by_id_or_name(session, Dataset, wanted.dataset, "share")
            if known := _equal_build(session, model, dataset, wanted):
                return known, False
            if refused := full_disk(settings):
                raise refused
            return _submit_build(session, settings, model, dataset, wanted), True
    except IntegrityError:
        # An equal request was faster.
        with database.read() as session:
            model = by_id_or_name(session, Model, wanted.model)
            dataset = by_id_or_name(session, Dataset, wanted.dataset)
            if known := _equal_build(session, model, dataset, wanted):
                return known, False
        raise


def activate_version(database: TenantDatabase, index_id: str) -> IndexVersion:
    """Make a ready version the one that its model's questions go to."""
    with database.write() as session:
        index = index_by_id(session, index_id)
        if index.state != "ready":
            raise ProblemError(
                409, "index-not-ready", "The index is not ready", f"it is {index.state}"
            )
        activate(session, index)
        return index


def deactivate_version(database: TenantDatabase, index_id: str) -> IndexVersion:
    """Let a version answer only who asks for it; its model then answers nothing unasked."""
    with database.write() as session:
        index = index_by_id(session, index_id, "own")
        index.active = False
        return index


def delete_version(database: TenantDatabase, settings: Settings, index_id: str) -> None:
    """Forget a version that nothing needs, with its files; else a 409 problem says what does."""
    with database.write() as session:
        index = index_by_id(session, index_id, "own")
        if index.state == "building":
            raise _needed("it is being built")
        if index.active:
            raise _needed("it is active: activate another version, or deactivate it")
        asked = (Job.index_id == index.id, Job.kind == ATTRIBUTION)
        kept = session.scalar(select(func.count()).where(*asked, Job.deleted_at.is_(None)))
        if kept:
            raise _needed(f"{kept} attributions were asked of it: delete them first")
        # Of deleted attributions it is only known that they were.
        session.execute(update(Job).where(*asked).values(index_id=None))
        session.execute(delete(Job).where(Job.index_id == index.id))
        session.delete(index)
    discard(settings.home, index_id)


def _needed(reason: str) -> ProblemError:
    return ProblemError(409, "index-needed", "The index is needed", reason)


def page_of_indexes(session: Session, cursor: str | None, limit: int) -> Sequence[IndexVersion]:
    """Versions, newest first, one more than ``limit`` where there are more."""
    query = select(IndexVersion).order_by(IndexVersion.id.desc()).limit(limit + 1)
    if cursor:
        query = query.where(IndexVersion.id < cursor)
    return session.scalars(query).all()


def present(session: Session, indexes: Iterable[IndexVersion]) -> list[IndexOut]:
    """Versions as the API shows them, with the progress of their jobs."""
    indexes = list(indexes)
    measured = evidence.of_indexes(session, indexes)
    fractions = _fractions(session, [index.id for index in indexes if index.state != "ready"])
    return [
        IndexOut(
            id=index.id,
            model=index.model_id,
            dataset=index.dataset_id,
            config=index.config,
            methods=served_methods(index),
            state=index.state,
            active=index.active,
            progress=_progress(index, fractions),
            manifest_digest=index.manifest_digest,
            problem=index.problem,
            evidence=[EvidenceOut.model_validate(row) for row in measured[index.id]],
            created_at=index.created_at,
            ready_at=index.ready_at,
            urls=IndexUrls(
                self=f"/v1/indexes/{index.id}", activate=f"/v1/indexes/{index.id}/activate"
            ),
        )
        for index in indexes
    ]


def _equal_build(
    session: Session, model: Model, dataset: Dataset, wanted: IndexIn
) -> IndexVersion | None:
    query = select(IndexVersion).where(
        IndexVersion.model_id == model.id,
        IndexVersion.dataset_id == dataset.id,
        IndexVersion.config_digest == _config(model, wanted).digest(),
        IndexVersion.state != "failed",
    )
    return session.scalars(query).one_or_none()


def _submit_build(
    session: Session, settings: Settings, model: Model, dataset: Dataset, wanted: IndexIn
) -> IndexVersion:
    if not dataset.sample_count:
        raise ProblemError(409, "dataset-empty", "All images of the dataset were taken down")
    _must_have_captions(session, model, dataset)
    index_id, config = new_id("idx"), _config(model, wanted)
    index = IndexVersion(
        id=index_id,
        model_id=model.id,
        dataset_id=dataset.id,
        config=config.to_dict(),
        config_digest=config.digest(),
        shard_size=settings.shard_size,
        directory=directory_of(index_id),
    )
    session.add(index)
    session.flush()
    shards = -(-dataset.sample_count // settings.shard_size)
    for number in range(shards):
        request = {"shard": number}
        submit(session, settings, INDEX_SHARD, request, index_id=index.id, priority=BUILD)
    return index


def _config(model: Model, wanted: IndexIn) -> IndexConfig:
    return wanted.whole_config(adapted=model.lora is not None)


def _must_have_captions(session: Session, model: Model, dataset: Dataset) -> None:
    """A gradient under another caption than the training's is another gradient."""
    if model.follows == "nothing":
        return
    without = (Sample.dataset_id == dataset.id, Sample.text.is_(None))
    first, count = session.execute(select(func.min(Sample.key), func.count()).where(*without)).one()
    if count:
        raise ProblemError(
            422,
            "captions-missing",
            "The model was trained with captions",
            f"{count} of {dataset.sample_count} images have no text, {first} the first: give each"
            " the caption it was trained with, empty where it had none",
        )


def _fractions(session: Session, ids: Sequence[str]) -> dict[tuple[str, str], float]:
    """The mean fraction of each build's jobs, by index and kind."""
    query = (
        select(Job.index_id, Job.kind, func.avg(Job.fraction))
        .where(Job.index_id.in_(ids), Job.kind.in_((INDEX_SHARD, INDEX_FINALISE)))
        .group_by(Job.index_id, Job.kind)
    )
    return {(index_id, kind): float(mean) for index_id, kind, mean in session.execute(query)}


def _progress(index: IndexVersion, fractions: dict[tuple[str, str], float]) -> Progress:
    if index.state == "ready":
        return Progress(stage="ready", fraction=1.0)
    if (finalising := fractions.get((index.id, INDEX_FINALISE))) is not None:
        return Progress(stage="finalise", fraction=finalising)
    return Progress(stage="shards", fraction=fractions.get((index.id, INDEX_SHARD), 0.0))
