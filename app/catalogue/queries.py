"""Looking through all of a tenant's training images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select, tuple_
from sqlalchemy.orm import Session

from app.catalogue.schemas import Contributor
from app.database.tables import Dataset, Sample
from app.problems import ProblemError


@dataclass(frozen=True)
class SampleFilter:
    """Which samples are looked for; what is None is not asked."""

    dataset: str | None = None
    creator: str | None = None
    licence: str | None = None
    opted_out: bool | None = None


def samples(
    session: Session, wanted: SampleFilter, cursor: str | None, limit: int
) -> Sequence[Sample]:
    """Samples by dataset and key, one more than ``limit`` where there are more."""
    query = select(Sample).join(Dataset, Dataset.id == Sample.dataset_id)
    for column, value in (
        (Sample.dataset_id, wanted.dataset),
        (Sample.creator, wanted.creator),
        (Sample.licence, wanted.licence),
    ):
        if value is not None:
            query = query.where(column == value)
    if wanted.opted_out is not None:
        said = Sample.opt_out.is_not(None)
        query = query.where(said if wanted.opted_out else ~said)
    if cursor:
        query = query.where(tuple_(Sample.dataset_id, Sample.key) > _place(cursor))
    order = (Sample.dataset_id, Sample.key)
    return session.scalars(query.order_by(*order).limit(limit + 1)).all()


def place_of(sample: Sample) -> str:
    """The cursor after a sample."""
    return f"{sample.dataset_id}/{sample.key}"


def _place(cursor: str) -> tuple[str, str]:
    dataset, slash, key = cursor.partition("/")
    if not slash:
        raise ProblemError(422, "cursor-invalid", "The cursor is not one of these pages")
    return dataset, key


def contributors(session: Session, cursor: str | None, limit: int) -> Iterator[Contributor]:
    """Creators by name, one more than ``limit`` where there are more."""
    query = (
        select(
            Sample.creator,
            func.max(Sample.creator_uri),
            func.count(),
            func.count(Sample.opt_out),
        )
        .join(Dataset, Dataset.id == Sample.dataset_id)
        .where(Sample.creator.is_not(None))
        .group_by(Sample.creator)
        .order_by(Sample.creator)
        .limit(limit + 1)
    )
    if cursor:
        query = query.where(Sample.creator > cursor)
    rows = session.execute(query).all()
    licences = _licences(session, [row[0] for row in rows if row[0]])
    for creator, uri, images, opted_out in rows:
        yield Contributor(
            creator=creator,
            creator_uri=uri,
            images=images,
            opted_out=opted_out,
            licences=sorted(licence for name, licence in licences if name == creator),
        )


def _licences(session: Session, creators: Sequence[str]) -> list[tuple[str, str]]:
    query = (
        select(Sample.creator, Sample.licence)
        .join(Dataset, Dataset.id == Sample.dataset_id)
        .where(Sample.creator.in_(creators), Sample.licence.is_not(None))
        .distinct()
    )
    rows = session.execute(query)
    return [(creator, licence) for creator, licence in rows if creator and licence]
