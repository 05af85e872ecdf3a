"""Keyset pagination: a page says where the next one begins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel

Row = TypeVar("Row")

Limit = Annotated[int, Query(ge=1, le=200, description="Largest number of items")]
Cursor = Annotated[str | None, Query(max_length=5000, description="`next_cursor` of a page")]


class Page(BaseModel, Generic[Row]):
    """Some items; ``next_cursor`` is null on the last page."""

    items: list[Row]
    next_cursor: str | None


def cut_page(
    rows: Sequence[Row], limit: int, key: Callable[[Row], str]
) -> tuple[Sequence[Row], str | None]:
    """A page of ``limit`` from rows that were asked for with one more, and its next cursor."""
    page = rows[:limit]
    return page, key(page[-1]) if len(rows) > limit else None
