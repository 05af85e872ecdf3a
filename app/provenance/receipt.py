"""A receipt: what somebody needs to compute the answer again, and what came out."""

from __future__ import annotations

from typing import Any

from app.provenance.record import Record

RECEIPT_SCHEMA = "urn:headwater:schema:receipt:1"
QUESTION = (
    "prompt", "negative_prompt", "seed", "steps", "guidance_scale", "caption", "method",
    "candidates", "candidate_count",
)  # fmt: skip


def receipt(record: Record) -> dict[str, Any]:
    """JSON-ready.  It holds the question as it was asked: keep it as private as that."""
    return {
        "schema": RECEIPT_SCHEMA,
        "attribution_id": record.attribution_id,
        "index_id": record.index_id,
        "computed_at": record.finished_at.isoformat(),
        "picture_sha256": record.picture,
        "question": {name: record.request[name] for name in QUESTION if name in record.request},
        "rests_on": record.result["rests_on"],
        "candidates": record.result["candidates"],
        "contributors": [
            {name: row[name] for name in ("rank", "key", "score", "effect")}
            for row in record.result["contributors"]
        ],
        "redacted": record.result.get("redacted", 0),
    }
