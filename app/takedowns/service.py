"""Accepting takedowns: what is masked at once, and the job that removes the rest."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from app.config import Settings
from app.database.engine import TenantDatabase
from app.database.lookup import by_id_or_name
from app.database.tables import (
    Dataset,
    IndexVersion,
    Job,
    Sample,
    Takedown,
    TakenSample,
    Tenant,
)
from app.identifiers import new_id
from app.indexes.schemas import Progress
from app.jobs.claims import fail_build
from app.jobs.kinds import TAKEDOWN
from app.jobs.submission import submit
from app.problems import ProblemError, problem_body
from app.takedowns.schemas import TakedownIn, TakedownOut


def take_down(database: TenantDatabase, settings: Settings, wanted: TakedownIn) -> TakedownOut:
    """Take images out of the catalogue and of all answers to come; a job does the rest.

    The same content goes wherever else the tenant has it.
    """
    with database.write() as session:
        hold_tenant(session, database.tenant)
        dataset = by_id_or_name(session, Dataset, wanted.dataset)
        samples = _with_copies(session, _chosen(session, dataset, wanted))
        takedown_id = new_id("tkd")
        takedown = Takedown(
            id=takedown_id,
            dataset_id=dataset.id,
            job_id=submit(session, settings, TAKEDOWN, {"takedown": takedown_id}).id,
            reason=wanted.reason,
            images=len(samples),
        )
        session.add(takedown)
        session.flush()
        for dataset_id in sorted({sample.dataset_id for sample in samples}):
            there = [sample for sample in samples if sample.dataset_id == dataset_id]
            take_out(
                session, dataset_id, {sample.key: sample.digest for sample in there}, takedown_id
            )
            _end_builds(session, dataset_id)
        session.flush()
        return present(session, takedown)


def retry(database: TenantDatabase, settings: Settings, takedown_id: str) -> TakedownOut:
    """Let another job go on where a takedown's has failed."""
    with database.write() as session:
        takedown = find(session, takedown_id)
        session.refresh(takedown, with_for_update=True)
        status = session.get_one(Job, takedown.job_id).status
        if status != "failed":
            raise ProblemError(
                409, "takedown-not-failed", "The takedown has not failed", f"it is {status}"
            )
        takedown.job_id = submit(session, settings, TAKEDOWN, {"takedown": takedown.id}).id
        session.flush()
        return present(session, takedown)


def hold_tenant(session: Session, tenant_id: str, *, share: bool = False) -> None:
    """Until the commit, let a tenant's takedowns take turns, with each other and with ``share``.

    A registration that has looked for what was taken down must be written before something is.
    """
    row = select(Tenant.id).where(Tenant.id == tenant_id)
    # Neither keeps other transactions from adding rows that name the tenant.
    session.execute(row.with_for_update(read=share, key_share=not share)).one()


def take_out(
    session: Session, dataset_id: str, digests: Mapping[str, str | None], takedown_id: str
) -> None:
    """Take images, by key with the SHA-256 of their files, out of one dataset's catalogue."""
    dataset = session.get_one(Dataset, dataset_id)
    # Builds and answers that read this row meanwhile see one state or the other.
    session.refresh(dataset, with_for_update=True)
    session.add_all(
        TakenSample(dataset_id=dataset_id, key=key, digest=digest, takedown_id=takedown_id)
        for key, digest in digests.items()
    )
    for some in _batches(digests):
        session.execute(delete(Sample).where(Sample.dataset_id == dataset_id, Sample.key.in_(some)))
    dataset.sample_count -= len(digests)
    dataset.revision += 1
    session.flush()


def _chosen(session: Session, dataset: Dataset, wanted: TakedownIn) -> Sequence[Sample]:
    query = select(Sample).where(Sample.dataset_id == dataset.id)
    if wanted.creator is not None:
        samples = session.scalars(query.where(Sample.creator == wanted.creator)).all()
        if not samples:
            raise ProblemError(
                404, "creator-not-found", "The dataset has no images of this creator"
            )
        return samples
    keys = set(wanted.keys or ())
    samples = []
    for some in _batches(keys):
        samples += session.scalars(query.where(Sample.key.in_(some))).all()
    if missing := keys - {sample.key for sample in samples}:
        if gone := missing & taken_keys(session, dataset.id):
            told = f"{len(gone)} of the keys were taken down already"
            raise ProblemError(410, "sample-taken-down", "The image was taken down", told)
        raise ProblemError(
            404, "sample-not-found", "Sample not found", f"{len(missing)} of the keys are unknown"
        )
    return samples


def _with_copies(session: Session, chosen: Sequence[Sample]) -> list[Sample]:
    """These samples and all others of the tenant that have the content of one."""
    found = {(sample.dataset_id, sample.key): sample for sample in chosen}
    for some in _batches({sample.digest for sample in chosen if sample.digest}):
        query = select(Sample).join(Dataset, Dataset.id == Sample.dataset_id)
        for sample in session.scalars(query.where(Sample.digest.in_(some))):
            found[sample.dataset_id, sample.key] = sample
    return list(found.values())


def _batches(values: Collection[str]) -> Iterator[list[str]]:
    """In order, not more at once than a database takes as parameters."""
    ordered = sorted(values)
    return (ordered[start : start + 500] for start in range(0, len(ordered), 500))


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
    for some in _batches(digests):
        query = (
            select(TakenSample.digest, TakenSample.takedown_id)
            .join(Takedown, Takedown.id == TakenSample.takedown_id)
            .where(TakenSample.digest.in_(some))
        )
        found |= {digest: takedown for digest, takedown in session.execute(query) if digest}
    return found


def versions_over(session: Session, dataset_id: str) -> Sequence[IndexVersion]:
    """The versions over a dataset whose builds have ended, also those that have failed."""
    query = select(IndexVersion).where(
        IndexVersion.dataset_id == dataset_id, IndexVersion.state != "building"
    )
    return session.scalars(query.order_by(IndexVersion.id)).all()


def retire(session: Session, index_id: str) -> None:
    """A version of which no image is left answers nothing more."""
    problem = problem_body(410, "index-emptied", "All of its images were taken down")
    session.execute(
        update(IndexVersion)
        .where(IndexVersion.id == index_id)
        .values(state="failed", active=False, problem=problem)
    )


def replace_directory(
    session: Session, index_id: str, old: str, new: str, manifest_digest: str
) -> None:
    """Let a version live in another directory, unless somebody else has moved it."""
    session.execute(
        update(IndexVersion)
        .where(IndexVersion.id == index_id, IndexVersion.directory == old)
        .values(directory=new, manifest_digest=manifest_digest)
    )
