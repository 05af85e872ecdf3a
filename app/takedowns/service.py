"""Accepting takedowns: what is masked at once, and the job that removes the rest."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from app.config import Settings
from app.database.engine import TenantDatabase
from app.database.lookup import by_id_or_name
from app.database.tables import Dataset, IndexVersion, Job, Sample, Takedown, TakenSample
from app.identifiers import new_id
from app.indexes.schemas import Progress
from app.jobs.claims import fail_build
from app.jobs.kinds import TAKEDOWN
from app.jobs.submission import submit
from app.problems import ProblemError, problem_body
from app.takedowns.schemas import TakedownIn, TakedownOut


def take_down(database: TenantDatabase, settings: Settings, wanted: TakedownIn) -> TakedownOut:
    """Take images out of the catalogue and of all answers to come; a job does the rest.

    Builds that are under way are ended: they would hold the images.
    """
    with database.write() as session:
        dataset = by_id_or_name(session, Dataset, wanted.dataset)
        # Registrations, builds and answers that read this row meanwhile see one state or the other.
        session.refresh(dataset, with_for_update=True)
        samples = _chosen(session, dataset, wanted)
        takedown_id = new_id("tkd")
        keys = [sample.key for sample in samples]
        job = submit(
            session,
            settings,
            TAKEDOWN,
            {"dataset": dataset.id, "takedown": takedown_id, "creator": wanted.creator},
        )
        session.add(
            Takedown(
                id=takedown_id,
                dataset_id=dataset.id,
                job_id=job.id,
                reason=wanted.reason,
                images=len(keys),
            )
        )
        session.flush()
        session.add_all(
            TakenSample(
                dataset_id=dataset.id,
                key=sample.key,
                digest=sample.digest,
                takedown_id=takedown_id,
            )
            for sample in samples
        )
        for start in range(0, len(keys), 500):
            some = keys[start : start + 500]
            session.execute(
                delete(Sample).where(Sample.dataset_id == dataset.id, Sample.key.in_(some))
            )
        dataset.sample_count -= len(keys)
        dataset.revision += 1
        _end_builds(session, dataset.id)
        session.flush()
        return present(session, session.get_one(Takedown, takedown_id))


def _chosen(session: Session, dataset: Dataset, wanted: TakedownIn) -> Sequence[Sample]:
    query = select(Sample).where(Sample.dataset_id == dataset.id)
    if wanted.creator is not None:
        samples = session.scalars(query.where(Sample.creator == wanted.creator)).all()
        if not samples:
            raise ProblemError(
                404, "creator-not-found", "The dataset has no images of this creator"
            )
        return samples
    keys = sorted(set(wanted.keys or ()))
    samples = []
    for start in range(0, len(keys), 500):
        samples += session.scalars(query.where(Sample.key.in_(keys[start : start + 500]))).all()
    if missing := len(keys) - len(samples):
        raise ProblemError(
            404, "sample-not-found", "Sample not found", f"{missing} of the keys are unknown"
        )
    return samples


def _end_builds(session: Session, dataset_id: str) -> None:
    building = select(IndexVersion).where(
        IndexVersion.dataset_id == dataset_id, IndexVersion.state == "building"
    )
    problem = problem_body(
        409, "dataset-changed", "Images were taken down meanwhile", "build the index again"
    )
    for index in session.scalars(building):
        fail_build(session, index.id, problem)


def find(session: Session, takedown_id: str) -> Takedown:
    """The takedown; a 404 problem if there is none."""
    takedown = session.get(Takedown, takedown_id)
    if takedown is None:
        raise ProblemError(
            404, "takedown-not-found", "Takedown not found", f"{takedown_id!r} is unknown"
        )
    return takedown


def page(session: Session, cursor: str | None, limit: int) -> Sequence[Takedown]:
    """Takedowns, newest first, one more than ``limit`` where there are more."""
    query = select(Takedown).order_by(Takedown.id.desc()).limit(limit + 1)
    if cursor:
        query = query.where(Takedown.id < cursor)
    return session.scalars(query).all()


def present(session: Session, takedown: Takedown) -> TakedownOut:
    """A takedown as the API shows it."""
    job = session.get_one(Job, takedown.job_id)
    return TakedownOut(
        id=takedown.id,
        dataset=takedown.dataset_id,
        images=takedown.images,
        reason=takedown.reason,
        status=job.status,
        progress=Progress(stage=job.stage, fraction=job.fraction),
        problem=job.problem,
        created_at=takedown.created_at,
        finished_at=job.finished_at,
    )


def taken_keys(session: Session, dataset_id: str) -> frozenset[str]:
    """The keys of a dataset's folder that are in the catalogue no more."""
    query = select(TakenSample.key).where(TakenSample.dataset_id == dataset_id)
    return frozenset(session.scalars(query))


def taken_digests(session: Session, digests: Collection[str]) -> dict[str, str]:
    """Of some contents those that the tenant has taken down, and by which takedown."""
    found: dict[str, str] = {}
    listed = sorted(digests)
    for start in range(0, len(listed), 500):
        query = (
            select(TakenSample.digest, TakenSample.takedown_id)
            .join(Takedown, Takedown.id == TakenSample.takedown_id)
            .where(TakenSample.digest.in_(listed[start : start + 500]))
        )
        found |= {digest: takedown for digest, takedown in session.execute(query) if digest}
    return found


def indexes_to_redact(session: Session, dataset_id: str) -> Sequence[IndexVersion]:
    """Finished versions over a dataset."""
    query = select(IndexVersion).where(
        IndexVersion.dataset_id == dataset_id, IndexVersion.state == "ready"
    )
    return session.scalars(query.order_by(IndexVersion.id)).all()


def replace_directory(
    session: Session, index_id: str, old: str, new: str, manifest_digest: str
) -> bool:
    """Let a version live in another directory, unless somebody else has moved it."""
    moved = (
        update(IndexVersion)
        .where(IndexVersion.id == index_id, IndexVersion.directory == old)
        .values(directory=new, manifest_digest=manifest_digest)
        .returning(IndexVersion.id)
    )
    return session.execute(moved).first() is not None
