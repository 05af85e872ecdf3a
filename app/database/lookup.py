"""Finding things that clients name."""

from __future__ import annotations

from typing import TypeVar

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from app.database.tables import Dataset, IndexVersion, Model
from app.problems import ProblemError

Named = TypeVar("Named", Dataset, Model)


def by_id_or_name(session: Session, table: type[Named], what: str) -> Named:
    """The dataset or model of this id or name; a 404 problem if there is none."""
    query = select(table).where(or_(table.id == what, table.name == what))
    # A name may look like another row's id: the id wins.
    found = sorted(session.scalars(query), key=lambda row: row.id != what)
    if not found:
        kind = table.__name__
        raise ProblemError(
            404, f"{kind.lower()}-not-found", f"{kind} not found", f"{what!r} is unknown"
        )
    return found[0]


def index_by_id(session: Session, index_id: str) -> IndexVersion:
    """The index version of this id; a 404 problem if there is none."""
    index = session.get(IndexVersion, index_id)
    if index is None:
        raise ProblemError(404, "index-not-found", "Index not found", f"{index_id!r} is unknown")
    return index
