"""What a key opens: an area of the API, for looking or for changing too."""

from __future__ import annotations

from typing import Literal, get_args

Area = Literal["attributions", "catalogue", "keys", "webhooks"]
Scope = Literal[
    "attributions:read",
    "attributions:write",
    "catalogue:read",
    "catalogue:write",
    "keys:read",
    "keys:write",
    "webhooks:read",
    "webhooks:write",
]
SCOPES: tuple[Scope, ...] = get_args(Scope)

READING = frozenset({"GET", "HEAD", "OPTIONS"})


def needed(area: Area, method: str) -> str:
    """The scope that an HTTP method needs in an area."""
    return f"{area}:{'read' if method in READING else 'write'}"
