"""Licences are SPDX expressions."""

from __future__ import annotations

from collections.abc import Iterable

from license_expression import ExpressionError, ExpressionParseError, get_spdx_licensing

from app.problems import ProblemError
from attribution.metadata import Sample

OWN_LICENCE = "LicenseRef-"


def check_licences(samples: Iterable[Sample]) -> None:
    """Raise a problem that names the first file whose licence is no SPDX expression."""
    checked: set[str] = set()
    for sample in samples:
        if sample.licence is not None and sample.licence not in checked:
            if fault := licence_fault(sample.licence):
                raise ProblemError(
                    422,
                    "licence-unknown",
                    "A licence is not an SPDX expression",
                    f"{sample.key}: {sample.licence!r}: {fault}",
                )
            checked.add(sample.licence)


def licence_fault(expression: str) -> str | None:
    """What is wrong with an SPDX expression; None if nothing is."""
    licensing = get_spdx_licensing()
    try:
        parsed = licensing.parse(expression)
        unknown = licensing.unknown_license_keys(parsed)
    except (ExpressionError, ExpressionParseError) as error:
        return str(error)
    if parsed is None:
        return "it is empty"
    # SPDX's own way to name a licence that is not on its list.
    unlisted = [key for key in unknown if not key.startswith(OWN_LICENCE)]
    return f"unknown: {', '.join(unlisted)}" if unlisted else None
