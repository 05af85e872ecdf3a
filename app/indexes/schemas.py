"""What goes in and out at ``/v1/indexes``."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class IndexConfigIn(BaseModel):
    """``attribution.index.config.IndexConfig`` at the door, without torch; a test compares them.

    ``damping`` is λ relative to the mean eigenvalue of the kernel.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    output: Literal["regions", "dct", "square"] = "regions"
    grid: int = Field(2, ge=1, le=16)
    timesteps: int = Field(10, ge=1, le=1000)
    schedule: Literal["uniform", "cumulative"] = "uniform"
    normalisation: Literal["none", "timestep", "elementwise"] = "none"
    parameters: str = "all"
    projection_dim: int = Field(4096, ge=1, le=65_536)
    damping: float = Field(0.03, gt=0, allow_inf_nan=False)
    seed: int = Field(0, ge=0, le=2**31 - 1)
    store: Literal["float16", "float32"] = "float16"

    def digest(self) -> str:
        """SHA-256 of the canonical JSON, in hexadecimal."""
        canonical = json.dumps(self.model_dump(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


class IndexIn(BaseModel):
    """An index to build; ``model`` and ``dataset`` are ids or names."""

    model_config = ConfigDict(extra="forbid")

    model: str
    dataset: str
    config: IndexConfigIn = Field(default_factory=IndexConfigIn)


class Progress(BaseModel):
    """How far work is: ``fraction`` of the named stage."""

    stage: str | None
    fraction: float


class IndexUrls(BaseModel):
    """Where to go on."""

    self: str
    activate: str


class IndexOut(BaseModel):
    """A version of an index.  Stages: ``shards``, ``finalise``, ``ready``."""

    id: str
    model: str
    dataset: str
    config: dict[str, Any]
    state: Literal["building", "ready", "failed"]
    active: bool
    progress: Progress
    manifest_digest: str | None
    problem: dict[str, Any] | None
    created_at: datetime
    ready_at: datetime | None
    urls: IndexUrls
