"""What the licences of the images behind a picture ask for, in words.

Nothing here is legal advice: it says which conditions stand in the declared licences of images that
had influence, so that somebody who can judge it looks at the right ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from license_expression import (
    AND,
    OR,
    ExpressionError,
    ExpressionParseError,
    LicenseWithExceptionSymbol,
    get_spdx_licensing,
)

from app.datasets.licences import OWN_LICENCE

UNKNOWN = "unknown"

# Families of SPDX identifiers that set a condition, and what it asks.
CONDITIONS: tuple[tuple[str, re.Pattern[str], str], ...] = (
    (
        "non-commercial",
        re.compile(r"-NC(-|$)|^PolyForm-Noncommercial|^NCGL-", re.IGNORECASE),
        "the licence allows no commercial use of works made from the image",
    ),
    (
        "no-derivatives",
        re.compile(r"-ND(-|$)", re.IGNORECASE),
        "the licence allows no sharing of works made from the image",
    ),
    (
        "share-alike",
        re.compile(
            r"-SA(-|$)|^(A|L)?GPL-|^GFDL-|^LAL-|^ODbL-|^CDLA-Sharing|^OSL-|^EUPL-", re.IGNORECASE
        ),
        "works made from the image must be shared under the same terms",
    ),
    (
        "unlisted-licence",
        re.compile(f"^{OWN_LICENCE}"),
        "the licence is not on SPDX's list: what it asks stands in its own text",
    ),
)


def licence_conflicts(
    by_licence: Iterable[Mapping[str, Any]], opted_out: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """The conditions that images with influence come under, by the influence that they have.

    ``by_licence`` are an answer's roll-up rows, ``opted_out`` the same for images whose creators do
    not want them trained on.
    """
    rows = [row for row in by_licence if row["share"] > 0]
    found = [
        _conflict(kind, why, [row for row in rows if asks_for(row["licence"], pattern)])
        for kind, pattern, why in CONDITIONS
    ]
    unknown = [row for row in rows if row["licence"] == UNKNOWN]
    found.append(_conflict("unknown-licence", "no licence is declared for the image", unknown))
    if opted_out and opted_out["images"]:
        why = "the creator does not want the image to be trained on"
        found.append({"kind": "opt-out", "why": why, "licences": [], **opted_out})
    kept = [conflict for conflict in found if conflict and conflict["images"]]
    return sorted(kept, key=lambda conflict: (-conflict["share"], conflict["kind"]))


def asks_for(expression: str, pattern: re.Pattern[str]) -> bool:
    """Whether every way to comply with an SPDX expression meets a licence of this family.

    All parts of an AND hold at once; an OR lets the user choose one without.
    """
    try:
        parsed = get_spdx_licensing().parse(expression)
    except (ExpressionError, ExpressionParseError):
        return False
    return parsed is not None and _holds(parsed, lambda key: bool(pattern.search(key)))


def _holds(node: Any, test: Callable[[str], bool]) -> bool:
    if isinstance(node, AND):
        return any(_holds(part, test) for part in node.args)
    if isinstance(node, OR):
        return all(_holds(part, test) for part in node.args)
    if isinstance(node, LicenseWithExceptionSymbol):
        return test(node.license_symbol.key)
    return test(node.key)


def _conflict(kind: str, why: str, rows: list[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "kind": kind,
        "why": why,
        "licences": sorted(row["licence"] for row in rows if row["licence"] != UNKNOWN),
        "share": sum(row["share"] for row in rows),
        "images": sum(row["images"] for row in rows),
    }
