"""What goes in and out at ``/v1/datasets``."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Described = Literal["text", "creator", "licence", "source", "creator_uri", "opt_out", "seed"]


class DatasetIn(BaseModel):
    """Training images to register; ``path`` is on the server.

    It leads to an image folder, WebDataset tar or Parquet files (or to one of them), or to what
    ``save_to_disk`` of Hugging Face datasets wrote.  ``fields`` says under which name the data has
    what, where that is not the usual one.  With ``skip_invalid``, images that cannot be used are
    left out and reported, instead of being an error.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"name": "art", "path": "/datasets/art"},
                {
                    "name": "paintings",
                    "path": "/datasets/paintings.parquet",
                    "fields": {"creator": "artist"},
                    "skip_invalid": True,
                },
            ]
        },
    )

    name: str = Field(min_length=1, max_length=200)
    path: str = Field(min_length=1, max_length=4000)
    fields: dict[Described, Annotated[str, Field(min_length=1, max_length=200)]] = Field(
        default_factory=dict
    )
    skip_invalid: bool = False


class DatasetOut(BaseModel):
    """Registered training images.  ``form`` says what they lie in."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    name: str
    path: str
    form: str
    fields: dict[str, str]
    digest: str
    sample_count: int
    refused_count: int
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


class RefusedOut(BaseModel):
    """What a registration left out (an image, or a line of its metadata), and why."""

    model_config = ConfigDict(from_attributes=True)

    what: str
    reason: str
