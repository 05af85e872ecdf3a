"""Finding things that clients name."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

from sqlalchemy import Select, or_, select
from sqlalchemy.orm import Session

from app.database.tables import Dataset, IndexVersion, Model
from app.problems import ProblemError

Named = TypeVar("Named", Dataset, Model)
Query = TypeVar("Query", bound=Select[Any])
Lock = Literal["share", "own"]


def by_id_or_name(
    session: Session, table: type[Named], what: str, lock: Lock | None = None
) -> Named:
    """The dataset or model of this id or name; a 404 problem if there is none.

    With a ``lock`` it stays as it is until the transaction ends: ``share`` others may hold too.
    """
    query = _locked(select(table).where(or_(table.id == what, table.name == what)), lock)
    # A name may look like another row's id: the id wins.
    found = sorted(session.scalars(query), key=lambda row: row.id != what)
    if not found:
        kind = table.__name__
        raise ProblemError(
            404, f"{kind.lower()}-not-found", f"{kind} not found", f"{what!r} is unknown"
        )
    return found[0]


def index_by_id(session: Session, index_id: str, lock: Lock | None = None) -> IndexVersion:
    """The index version of this id; a 404 problem if there is none."""
    query = _locked(select(IndexVersion).where(IndexVersion.id == index_id), lock)
    index = session.scalars(query).one_or_none()
    if index is None:
        raise ProblemError(404, "index-not-found", "Index not found", f"{index_id!r} is unknown")
    return index


def _locked(query: Query, lock: Lock | None) -> Query:
    if lock is None:
        return query
    fresh = query.execution_options(populate_existing=True)
    return fresh.with_for_update(read=lock == "share")
