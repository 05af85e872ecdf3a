"""What a shell offers where the name of a method is wanted."""

from __future__ import annotations


def method_names(incomplete: str) -> list[str]:
    """The methods that begin so."""
    from attribution.methods import METHODS

    return [name for name in METHODS if name.startswith(incomplete)]
