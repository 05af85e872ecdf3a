"""A receipt: what somebody needs to compute the answer again, and what came out."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, FiniteFloat, Tag

from app.attributions.schemas import ImageQuestion, PromptQuestion
from app.provenance.record import Record

RECEIPT_SCHEMA = "urn:headwater:schema:receipt:1"
QUESTION = (
    "prompt", "negative_prompt", "seed", "steps", "guidance_scale", "caption", "method", "top_k",
    "candidates", "candidate_count",
)  # fmt: skip

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _kind(question: Any) -> str:
    fields = question.model_fields_set if isinstance(question, BaseModel) else question
    return "prompt" if isinstance(fields, dict | set) and "prompt" in fields else "picture"


class Listed(BaseModel):
    """A training image in the answer's list."""

    model_config = ConfigDict(extra="forbid")

    rank: int = Field(ge=1)
    key: str
    score: FiniteFloat
    effect: FiniteFloat


class Receipt(BaseModel):
    """It holds the question as it was asked: keep it as private as that."""

    # Nothing may stand in it that nobody checks.
    model_config = ConfigDict(extra="forbid")

    schema_: Literal["urn:headwater:schema:receipt:1"] = Field(alias="schema")
    attribution_id: str
    index_id: str = Field(pattern=r"^idx_[0-9a-z]+$")
    computed_at: datetime
    picture_sha256: Digest = Field(description="Of the picture at …/image")
    question: Annotated[
        Annotated[PromptQuestion, Tag("prompt")] | Annotated[ImageQuestion, Tag("picture")],
        Discriminator(_kind),
    ]
    rests_on: dict[str, Any]
    candidates: dict[str, Any]
    contributors: list[Listed]
    redacted: int = Field(ge=0, description="Listed images that were taken down since")
    result_sha256: Digest = Field(
        description="Of the attribution's `result` as JSON: ASCII, sorted keys, no spaces"
    )


def receipt(record: Record) -> Receipt:
    """The receipt of an answer as it stands now."""
    whole = json.dumps(record.result, sort_keys=True, separators=(",", ":"))
    content = {
        "schema": RECEIPT_SCHEMA,
        "attribution_id": record.attribution_id,
        "index_id": record.index_id,
        "computed_at": record.finished_at,
        "picture_sha256": record.picture,
        "question": {name: record.request[name] for name in QUESTION if name in record.request},
        "rests_on": record.result["rests_on"],
        "candidates": record.result["candidates"],
        "contributors": [
            {name: row[name] for name in ("rank", "key", "score", "effect")}
            for row in record.result["contributors"]
        ],
        "redacted": record.result.get("redacted", 0),
        "result_sha256": hashlib.sha256(whole.encode()).hexdigest(),
    }
    return Receipt.model_validate(content)
