"""What a client's server can be told of."""

from __future__ import annotations

from typing import Final, Literal, get_args

EventType = Literal[
    "attribution.succeeded",
    "attribution.failed",
    "attribution.canceled",
    "attribution.expired",
    "index.ready",
    "index.failed",
]
EVENT_TYPES: Final[tuple[EventType, ...]] = get_args(EventType)

TEST: Final = "webhook.test"
"""Sent on request, whatever an endpoint listens to."""
