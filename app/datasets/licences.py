"""Licences are SPDX expressions."""

from __future__ import annotations

from license_expression import ExpressionError, ExpressionParseError, get_spdx_licensing

OWN_LICENCE = "LicenseRef-"


class Licences:
    """What is wrong with licences; datasets have few, and each is parsed once."""

    def __init__(self) -> None:
        self._known: dict[str, str | None] = {}

    def fault(self, licence: str | None) -> str | None:
        """Why it is no SPDX expression; None if it is one, or none is said."""
        if licence is None:
            return None
        if licence not in self._known:
            fault = licence_fault(licence)
            told = f"its licence {licence!r} is no SPDX expression: {fault}"
            self._known[licence] = told if fault else None
        return self._known[licence]


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
