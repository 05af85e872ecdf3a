"""Reading what datasets hold, and forgetting them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from PIL import Image
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.config import Settings
from app.database.engine import TenantDatabase
from app.database.lookup import by_id_or_name
from app.database.tables import (
    Dataset,
    Evidence,
    IndexVersion,
    RefusedImage,
    Sample,
    TakenSample,
)
from app.problems import ProblemError
from app.provenance.read_credentials import media_type_of
from app.storage import Thumbnails, write_whole
from app.takedowns.service import hold_tenant
from app.uploads import check_upload
from attribution.image_data.opening import Form, reopen
from attribution.image_data.sample import ImageDataError

THUMBNAIL = 128  # pixels
UNKNOWN = "application/octet-stream"


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


def page_of_refused(
    session: Session, dataset_id: str, cursor: str | None, limit: int
) -> Sequence[RefusedImage]:
    """What the registration left out, in its order, one more than ``limit`` where there are more.

    A cursor that is no number begins at the beginning.
    """
    query = select(RefusedImage).where(RefusedImage.dataset_id == dataset_id)
    if cursor and cursor.isdecimal() and len(cursor) < 10:
        query = query.where(RefusedImage.number > int(cursor))
    return session.scalars(query.order_by(RefusedImage.number).limit(limit + 1)).all()


def sample_content(session: Session, settings: Settings, dataset_id: str, key: str) -> bytes:
    """The file of a sample, which must still lie below the dataset's path and a root."""
    dataset = by_id_or_name(session, Dataset, dataset_id)
    sample = find_sample(session, dataset.id, key)
    data = reopen(cast(Form, dataset.form), Path(dataset.path))
    root = data.root.resolve()
    try:
        if any(root.is_relative_to(allowed) for allowed in settings.dataset_roots):
            return data.read(sample)
    except (OSError, ImageDataError):
        pass
    raise ProblemError(404, "sample-gone", "The sample's file is gone", key)


def media_type(content: bytes) -> str:
    """What a picture is by its first bytes: a name may lie, and a browser would believe it."""
    return media_type_of(content) or ("image/bmp" if content[:2] == b"BM" else UNKNOWN)


def thumbnail(content: bytes, settings: Settings) -> Path:
    """A small picture of a training image, decoded like an upload: nobody has looked at it yet."""
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
