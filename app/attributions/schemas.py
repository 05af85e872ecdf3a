"""What goes in and out at ``/v1/attributions``."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.indexes.methods import MethodName
from app.indexes.schemas import Progress

Status = Literal["queued", "running", "succeeded", "failed", "canceled", "expired"]

TERMINAL: frozenset[str] = frozenset({"succeeded", "failed", "canceled", "expired"})


class Question(BaseModel):
    """What is asked of the index, whatever the picture is."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(
        None, max_length=200, description="Id or name; optional where one model has an active index"
    )
    index: str | None = Field(
        None, max_length=200, description="Id of a version that need not be the active one"
    )
    method: MethodName | None = Field(
        None, description="By default the first that the index answers"
    )
    top_k: int = Field(20, ge=1, le=1000)
    candidates: Literal["exhaustive", "clip"] = "exhaustive"
    candidate_count: int = Field(200, ge=1, le=100_000, description="For candidates=clip")
    priority: Literal["interactive", "batch"] = Field(
        "interactive", description="Batch waits until nothing interactive does"
    )
    expires_in: int | None = Field(
        None, ge=1, le=30 * 86_400, description="Seconds after which the answer is not wanted"
    )
    webhook_url: str | None = Field(
        None, min_length=1, max_length=2000, description="Told of the end, however it comes"
    )


class ImageQuestion(Question):
    """The fields of a form beside ``image``."""

    caption: str | None = Field(None, max_length=2000, description="The prompt, where known")


class UrlQuestion(ImageQuestion):
    """A picture that the server fetches: https, from the open internet, without redirects."""

    image_url: str = Field(min_length=1, max_length=2000)


class PromptQuestion(Question):
    """Draw a picture with the model, then ask where it came from."""

    prompt: str = Field(min_length=1, max_length=2000)
    negative_prompt: str = Field("", max_length=2000)
    seed: int = Field(0, ge=0, le=2**63 - 1)
    steps: int = Field(50, ge=1, le=1000)
    guidance_scale: float | None = Field(
        None, ge=0, le=100, allow_inf_nan=False, description="By default what the model's kind has"
    )


class AttributionUrls(BaseModel):
    """Where to go on."""

    self: str
    events: str
    image: str
    cancel: str
    c2pa: str
    prov: str
    receipt: str


class AttributionOut(BaseModel):
    """An attribution in any state; ``result`` or ``problem`` once it has ended."""

    id: str
    status: Status
    attempt: int
    progress: Progress
    index: str | None
    request: dict[str, Any]
    result: dict[str, Any] | None
    problem: dict[str, Any] | None
    created_at: datetime
    expires_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    urls: AttributionUrls
