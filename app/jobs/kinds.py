"""The kinds of jobs, and the queue that each waits in."""

from __future__ import annotations

from typing import Final, Literal

ATTRIBUTION: Final = "attribution"
INDEX_SHARD: Final = "index.shard"
INDEX_FINALISE: Final = "index.finalise"
TAKEDOWN: Final = "takedown"
C2PA_SIGN: Final = "c2pa.sign"
WEBHOOK_DELIVERY: Final = "webhook.delivery"

Queue = Literal["gpu", "cpu"]

KINDS: Final[dict[Queue, tuple[str, ...]]] = {
    "gpu": (ATTRIBUTION, INDEX_SHARD, INDEX_FINALISE),
    # Work that needs no model: here it waits behind no gradients.
    "cpu": (TAKEDOWN, C2PA_SIGN, WEBHOOK_DELIVERY),
}
TASKS: Final[dict[Queue, str]] = {"gpu": "headwater.gpu", "cpu": "headwater.cpu"}
"""The Celery task that takes a queue's next job."""

ID_PREFIXES: Final = {ATTRIBUTION: "atr"}

INTERACTIVE, BATCH, BUILD = 0, 1, 2
"""Priorities: somebody is waiting for it; somebody will look at it; hours are expected."""
PRIORITIES: Final = (INTERACTIVE, BATCH, BUILD)


def queue_of(kind: str) -> Queue:
    """Where a kind of job waits."""
    return "cpu" if kind in KINDS["cpu"] else "gpu"
