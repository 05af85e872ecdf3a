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

ID_PREFIXES: Final = {ATTRIBUTION: "atr"}
