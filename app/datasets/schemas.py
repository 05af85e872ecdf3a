"""What goes in and out at ``/v1/datasets``."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field


class DatasetIn(BaseModel):
    """A folder to register; ``path`` is on the server."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"name": "art", "path": "/datasets/art"}]}
    )

    name: str = Field(min_length=1, max_length=200)
    path: str = Field(min_length=1, max_length=4000)


class DatasetOut(BaseModel):
    """A registered folder."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    name: str
    path: str
    digest: str
    sample_count: int
    created_at: datetime


class SampleOut(BaseModel):
    """A training image.

    ``licence`` is an SPDX expression; ``opt_out`` says of each use that is not wanted how that was
    said, in the folder's metadata or in the file itself.
    """

    model_config = ConfigDict(from_attributes=True)

    key: str
    text: str | None
    creator: str | None
    licence: str | None
    creator_uri: str | None
    source: str | None
    opt_out: dict[str, str] | None
