"""Registering datasets and reading what they hold."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.allowed_paths import allowed_directory
from app.config import Settings
from app.database.engine import TenantDatabase
from app.database.lookup import by_id_or_name
from app.database.tables import Dataset, Evidence, IndexVersion, Sample, TakenSample
from app.datasets.licences import check_licences
from app.datasets.schemas import DatasetIn
from app.identifiers import new_id
from app.problems import ProblemError
from app.provenance.opt_outs import read_opt_out
from app.storage import Thumbnails, write_whole
from app.takedowns.service import hold_tenant, take_out, taken_digests
from app.uploads import check_upload
from attribution import metadata

THUMBNAIL = 128  # pixels


def register(
    database: TenantDatabase, settings: Settings, wanted: DatasetIn
) -> tuple[Dataset, bool]:
    """Read the folder and write its rows; the flag says whether it is new.

    The same name again is the same dataset if path and content are equal, and else a problem.
    """
    path = allowed_directory(wanted.path, settings.dataset_roots)
    try:
        samples = metadata.read_folder(path)
    except metadata.ImageFolderError as error:
        raise ProblemError(
            422, "dataset-unusable", "The folder cannot be used as it is", str(error)
        ) from None
    check_licences(samples)
    digest = samples_digest(samples)
    with database.read() as session:
        if known := _by_name(session, wanted.name):
            return _same(known, path, digest), False
    rows = [_looked_at(path, sample) for sample in samples]
    try:
        with database.write() as session:
            dataset = Dataset(
                id=new_id("ds"),
                name=wanted.name,
                path=str(path),
                digest=digest,
                sample_count=len(rows),
            )
            session.add(dataset)
            session.flush()
            session.execute(insert(Sample), [{"dataset_id": dataset.id, **row} for row in rows])
            _leave_out_taken(session, database.tenant, dataset, rows)
    except IntegrityError:
        # Somebody registered the name since we looked.
        with database.read() as session:
            return _same(by_id_or_name(session, Dataset, wanted.name), path, digest), False
    return dataset, True


def _leave_out_taken(
    session: Session, tenant_id: str, dataset: Dataset, rows: Sequence[dict[str, Any]]
) -> None:
    """What the tenant has taken down does not come back under another name."""
    hold_tenant(session, tenant_id, share=True)
    taken = taken_digests(session, {row["digest"] for row in rows})
    gone = [row for row in rows if row["digest"] in taken]
    if len(gone) == len(rows):
        raise ProblemError(422, "dataset-taken-down", "All images of the folder were taken down")
    for takedown_id in sorted(set(taken.values())):
        theirs = {row["key"]: row["digest"] for row in gone if taken[row["digest"]] == takedown_id}
        take_out(session, dataset.id, theirs, takedown_id)


def delete_dataset(database: TenantDatabase, settings: Settings, wanted: str) -> None:
    """Forget a dataset, its samples and their thumbnails; a 409 problem if something needs it."""
    with database.write() as session:
        hold_tenant(session, database.tenant)
        dataset = by_id_or_name(session, Dataset, wanted, "own")
        for what, column in (("indexes", IndexVersion), ("takedowns", TakenSample)):
            if session.scalars(
                select(column.dataset_id).where(column.dataset_id == dataset.id)
            ).first():
                raise ProblemError(409, "dataset-needed", "The dataset is needed", f"it has {what}")
        digests = session.scalars(
            select(Sample.digest).where(Sample.dataset_id == dataset.id)
        ).all()
        session.execute(delete(Evidence).where(Evidence.dataset_id == dataset.id))
        session.execute(delete(Dataset).where(Dataset.id == dataset.id))
    thumbnails = Thumbnails(settings.home)
    for digest in digests:
        if digest:
            thumbnails.forget(digest)


def samples_digest(samples: Sequence[metadata.Sample]) -> str:
    """SHA-256 over the rows in their order, in hexadecimal."""
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(json.dumps(_said(sample), sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def _said(sample: metadata.Sample) -> dict[str, Any]:
    """What the folder says of an image; what older releases did not read only where it is said."""
    since_ever = ("key", "text", "creator", "licence", "source")
    said = {field: getattr(sample, field) for field in since_ever}
    newer = {"creator_uri": sample.creator_uri, "opt_out": sample.opt_out}
    return said | {field: value for field, value in newer.items() if value is not None}


def _looked_at(folder: Path, sample: metadata.Sample) -> dict[str, Any]:
    """A sample's row: what the folder says, and what its file does."""
    try:
        content = (folder / sample.key).read_bytes()
    except OSError as error:
        raise ProblemError(
            422, "dataset-unusable", "The folder cannot be used as it is", f"{sample.key}: {error}"
        ) from None
    opt_out = (sample.opt_out or {}) | (read_opt_out(content) or {})
    fields = {field: getattr(sample, field) for field in ("key", *metadata.OWNER_FIELDS)}
    return fields | {
        "opt_out": opt_out or None,
        "digest": hashlib.sha256(content).hexdigest(),
    }


def page_of_datasets(session: Session, cursor: str | None, limit: int) -> Sequence[Dataset]:
    """Datasets, newest first, one more than ``limit`` where there are more."""
    query = select(Dataset).order_by(Dataset.id.desc()).limit(limit + 1)
    if cursor:
        query = query.where(Dataset.id < cursor)
    return session.scalars(query).all()


def page_of_samples(
    session: Session, dataset_id: str, cursor: str | None, limit: int
) -> Sequence[Sample]:
    """Samples by key, one more than ``limit`` where there are more."""
    query = select(Sample).where(Sample.dataset_id == dataset_id)
    if cursor:
        query = query.where(Sample.key > cursor)
    return session.scalars(query.order_by(Sample.key).limit(limit + 1)).all()


def sample_file(session: Session, settings: Settings, dataset_id: str, key: str) -> Path:
    """The file of a sample, which must still lie below the dataset's folder and a root."""
    dataset = by_id_or_name(session, Dataset, dataset_id)
    find_sample(session, dataset.id, key)
    folder = Path(dataset.path)
    file = (folder / key).resolve()
    inside = any(file.is_relative_to(root) for root in settings.dataset_roots)
    if not (inside and file.is_relative_to(folder) and file.is_file()):
        raise ProblemError(404, "sample-gone", "The sample's file is gone", key)
    return file


def thumbnail(file: Path, settings: Settings) -> Path:
    """A small picture of a training image, decoded like an upload: nobody has looked at it yet."""
    content = file.read_bytes()
    target = Thumbnails(settings.home).path(hashlib.sha256(content).hexdigest())
    if not target.is_file():
        upload = check_upload(content, settings)
        with Image.open(io.BytesIO(upload.png)) as picture:
            picture.thumbnail((THUMBNAIL, THUMBNAIL))
            small = io.BytesIO()
            picture.save(small, "PNG")
        write_whole(target, small.getvalue())
    return target


def keep_only_if_there(session: Session, dataset: str, key: str, thumbnail: Path) -> None:
    """Delete a thumbnail that was made while its image was taken down, and say so (410)."""
    try:
        find_sample(session, by_id_or_name(session, Dataset, dataset).id, key)
    except ProblemError:
        thumbnail.unlink(missing_ok=True)
        raise


def find_sample(session: Session, dataset_id: str, key: str) -> Sample:
    """One sample; a 410 problem if it was taken down, a 404 one if there is none."""
    if session.get(TakenSample, (dataset_id, key)) is not None:
        raise ProblemError(410, "sample-taken-down", "The image was taken down")
    sample = session.get(Sample, (dataset_id, key))
    if sample is None:
        raise ProblemError(404, "sample-not-found", "Sample not found", f"{key!r} is unknown")
    return sample


def _by_name(session: Session, name: str) -> Dataset | None:
    return session.scalars(select(Dataset).where(Dataset.name == name)).one_or_none()


def _same(known: Dataset, path: Path, digest: str) -> Dataset:
    if (known.path, known.digest) != (str(path), digest):
        raise ProblemError(
            409,
            "dataset-exists",
            "Another dataset has this name",
            f"{known.name!r} is {known.id}, registered with other content",
        )
    return known
