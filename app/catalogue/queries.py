"""Looking through all of a tenant's training images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.catalogue.schemas import Contributor
from app.database.tables import Dataset, Sample
from app.problems import ProblemError


@dataclass(frozen=True)
class SampleFilter:
    """Which samples are looked for; what is None is not asked."""

    dataset: str | None = None
    key: str | None = None
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
        (Sample.key, wanted.key),
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


def contributors(
    session: Session, creator: str | None, cursor: str | None, limit: int
) -> Iterator[Contributor]:
    """Creators by name, or the one of a name; one more than ``limit`` where there are more."""
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
    if creator is not None:
        query = query.where(Sample.creator == creator)
    if cursor:
        query = query.where(Sample.creator > cursor)
    rows = session.execute(query).all()
    creators = [row[0] for row in rows]
    licences = _each_creators(session, Sample.licence, creators)
    datasets = _each_creators(session, Sample.dataset_id, creators)
    for name, uri, images, opted_out in rows:
        yield Contributor(
            creator=name,
            creator_uri=uri,
            images=images,
            opted_out=opted_out,
            licences=licences[name],
            datasets=datasets[name],
        )


def _each_creators(
    session: Session,
    column: InstrumentedAttribute[str | None] | InstrumentedAttribute[str],
    creators: Sequence[str | None],
) -> defaultdict[str | None, list[str]]:
    """The different values of a column that each creator's images have."""
    query = (
        select(Sample.creator, column)
        .join(Dataset, Dataset.id == Sample.dataset_id)
        .where(Sample.creator.in_(creators))
        .distinct()
        .order_by(column)
    )
    found: defaultdict[str | None, list[str]] = defaultdict(list)
    for creator, value in session.execute(query):
        if value:
            found[creator].append(value)
    return found
