"""What goes in and out at ``/v1/models``."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from attribution.model_directory import Follows


class ModelIn(BaseModel):
    """A diffusers directory and an open_clip directory to register; paths are on the server.

    ``lora_path`` is a LoRA that is put on the model: a directory in peft's layout, or diffusers'
    safetensors file.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"name": "painter", "path": "/models/painter", "clip_path": "/models/clip"},
                {
                    "name": "ada",
                    "path": "/models/stable-diffusion",
                    "lora_path": "/models/ada-lora",
                    "clip_path": "/models/clip",
                },
            ]
        },
    )

    name: str = Field(min_length=1, max_length=200)
    path: str = Field(min_length=1, max_length=4000)
    clip_path: str = Field(min_length=1, max_length=4000)
    lora_path: str | None = Field(None, min_length=1, max_length=4000)


class ModelOut(BaseModel):
    """A registered model; digests are SHA-256 over its weight files.

    ``follows`` says what its prompts are: text, the name of a class, or nothing.
    """

    model_config = ConfigDict(from_attributes=True)

    id: str
    name: str
    directory: str
    lora: str | None
    clip_directory: str
    digest: str
    clip_digest: str
    pipeline_class: str
    follows: Follows
    created_at: datetime
