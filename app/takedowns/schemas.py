"""What goes in and out at ``/v1/takedowns``."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.attributions.schemas import Status
from app.indexes.schemas import Progress


class TakedownIn(BaseModel):
    """Images to take down: by their keys, or all of one creator's."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"dataset": "art", "creator": "Ada Example", "reason": "asked by Ada"}]
        },
    )

    dataset: str = Field(min_length=1, max_length=200, description="Id or name")
    keys: list[str] | None = Field(None, min_length=1, max_length=10_000)
    creator: str | None = Field(None, min_length=1, max_length=1000)
    reason: str = Field("", max_length=2000)

    @model_validator(mode="after")
    def _says_which(self) -> TakedownIn:
        if (self.keys is None) == (self.creator is None):
            raise ValueError("say either keys or creator")
        return self


class TakedownOut(BaseModel):
    """A takedown.  From its acceptance on no answer names the images; the rest takes a while."""

    id: str
    dataset: str
    images: int
    reason: str
    status: Status
    progress: Progress
    problem: dict[str, Any] | None
    created_at: datetime
    finished_at: datetime | None
