"""An old answer without the images that were taken down."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from app.datasets.licence_conflicts import UNKNOWN


def redacted(
    result: dict[str, Any], keys: Collection[str], creators: Collection[str | None]
) -> dict[str, Any] | None:
    """The answer without these images, and without creators of whom none is left.

    None where it names neither.  The other shares stay what they were: parts of an influence that
    was measured with the images; ``redacted`` counts what is missing from the list.
    """
    listed, by_creator = result.get("contributors", []), result.get("by_creator", [])
    left = [row for row in listed if row["key"] not in keys]
    rows = [row for row in by_creator if row["creator"] in creators or row["creator"] == UNKNOWN]
    if len(left) == len(listed) and len(rows) == len(by_creator):
        return None
    duplicates = result.get("near_duplicates", [])
    groups = [[key for key in group if key not in keys] for group in duplicates]
    return result | {
        "contributors": left,
        "listed_share": sum(row["share"] for row in left),
        "by_creator": rows,
        "near_duplicates": [group for group in groups if len(group) > 1],
        "redacted": result.get("redacted", 0) + len(listed) - len(left),
    }
