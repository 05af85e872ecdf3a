"""The kinds of jobs, and the Celery task that does each."""

from __future__ import annotations

from typing import Final

ATTRIBUTION: Final = "attribution"
INDEX_SHARD: Final = "index.shard"
INDEX_FINALISE: Final = "index.finalise"

TASKS: Final = {
    ATTRIBUTION: "headwater.attribution",
    INDEX_SHARD: "headwater.index.shard",
    INDEX_FINALISE: "headwater.index.finalise",
}

CPU_KINDS: Final[frozenset[str]] = frozenset()
"""Work that needs no model: it has a queue of its own, where it waits behind no gradients."""

ID_PREFIXES: Final = {ATTRIBUTION: "atr"}
