"""What goes in and out at ``/v1/models``."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field


class ModelIn(BaseModel):
    """A diffusers directory and an open_clip directory to register; paths are on the server."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"name": "painter", "path": "/models/painter", "clip_path": "/models/clip"}
            ]
        },
    )

    name: str = Field(min_length=1, max_length=200)
    path: str = Field(min_length=1, max_length=4000)
    clip_path: str = Field(min_length=1, max_length=4000)


class ModelOut(BaseModel):
    """A registered model; digests are SHA-256 over its weight files."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    name: str
    directory: str
    clip_directory: str
    digest: str
    clip_digest: str
    pipeline_class: str
    created_at: datetime
