"""What goes in and out at ``/v1/indexes``."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    WithJsonSchema,
    model_validator,
)

from app.evidence.schemas import EvidenceOut
from app.indexes.methods import MethodName
from attribution.index.config import IndexConfig
from attribution.methods import config_for


class IndexIn(BaseModel):
    """An index to build; ``model`` and ``dataset`` are ids or names.

    ``method`` is one that it shall answer; ``config`` says how its knobs differ from what that
    method has by default.  Of a model with a LoRA, ``parameters`` are the LoRA's unless said.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"model": "painter", "dataset": "art", "config": {"probes": 16}}]
        },
    )

    model: str
    dataset: str
    method: MethodName | None = None
    config: Annotated[dict[str, Any], WithJsonSchema(TypeAdapter(IndexConfig).json_schema())] = (
        Field(default_factory=dict)
    )

    @model_validator(mode="after")
    def _is_buildable(self) -> IndexIn:
        self.whole_config()
        return self

    def whole_config(self, *, adapted: bool = False) -> IndexConfig:
        """The configuration with every knob; a LoRA's weights are looked at alone, unless said."""
        knobs = {"parameters": "lora"} | self.config if adapted else self.config
        if self.method is None:
            return IndexConfig.from_dict(knobs)
        return config_for(self.method, **knobs)


class Progress(BaseModel):
    """How far work is: ``fraction`` of the named stage."""

    stage: str | None
    fraction: float


class IndexUrls(BaseModel):
    """Where to go on."""

    self: str
    activate: str


class IndexOut(BaseModel):
    """A version of an index.  Stages: ``shards``, ``finalise``, ``ready``.

    ``methods`` are those that it answers, the one that it answers unasked first; ``evidence`` what
    was measured of them under this configuration.
    """

    id: str
    model: str
    dataset: str
    config: dict[str, Any]
    methods: list[str]
    state: Literal["building", "ready", "failed"]
    active: bool
    progress: Progress
    manifest_digest: str | None
    problem: dict[str, Any] | None
    evidence: list[EvidenceOut]
    created_at: datetime
    ready_at: datetime | None
    urls: IndexUrls
