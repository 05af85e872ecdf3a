"""Registering datasets and reading what they hold."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.allowed_paths import allowed_directory
from app.config import Settings
from app.database.engine import TenantDatabase
from app.database.lookup import by_id_or_name
from app.database.tables import Dataset, Sample
from app.datasets.licences import check_licences
from app.datasets.schemas import DatasetIn
from app.identifiers import new_id
from app.problems import ProblemError
from attribution import metadata


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
    try:
        with database.write() as session:
            dataset = Dataset(
                id=new_id("ds"),
                name=wanted.name,
                path=str(path),
                digest=digest,
                sample_count=len(samples),
            )
            session.add(dataset)
            session.flush()
            rows = [{"dataset_id": dataset.id, **_row(sample)} for sample in samples]
            session.execute(insert(Sample), rows)
    except IntegrityError:
        # Somebody registered the name since we looked.
        with database.read() as session:
            return _same(by_id_or_name(session, Dataset, wanted.name), path, digest), False
    return dataset, True


def samples_digest(samples: Sequence[metadata.Sample]) -> str:
    """SHA-256 over the rows in their order, in hexadecimal."""
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(json.dumps(_row(sample), sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def _row(sample: metadata.Sample) -> dict[str, str | None]:
    """What is kept of a training image."""
    return {field: getattr(sample, field) for field in ("key", *metadata.OWNER_FIELDS)}


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
    if session.get(Sample, (dataset.id, key)) is None:
        raise ProblemError(404, "sample-not-found", "Sample not found", f"{key!r} is unknown")
    folder = Path(dataset.path)
    file = (folder / key).resolve()
    inside = any(file.is_relative_to(root) for root in settings.dataset_roots)
    if not (inside and file.is_relative_to(folder) and file.is_file()):
        raise ProblemError(404, "sample-gone", "The sample's file is gone", key)
    return file


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
