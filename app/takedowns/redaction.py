"""An old answer without the images that were taken down."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any


def redacted(
    result: dict[str, Any], keys: Collection[str], creator: str | None
) -> dict[str, Any] | None:
    """The answer without these images, and without the creator's row where all of them went.

    None where it names neither.  The other shares stay what they were: parts of an influence that
    was measured with the images; ``redacted`` counts what is missing from the list.
    """
    contributors = result.get("contributors", [])
    left = [row for row in contributors if row["key"] not in keys]
    creators = [row for row in result.get("by_creator", []) if row["creator"] != creator]
    if len(left) == len(contributors) and len(creators) == len(result.get("by_creator", [])):
        return None
    duplicates = result.get("near_duplicates", [])
    groups = [[key for key in group if key not in keys] for group in duplicates]
    return result | {
        "contributors": left,
        "listed_share": sum(row["share"] for row in left),
        "by_creator": creators,
        "near_duplicates": [group for group in groups if len(group) > 1],
        "redacted": result.get("redacted", 0) + len(contributors) - len(left),
    }
