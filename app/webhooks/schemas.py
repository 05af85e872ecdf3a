"""What goes in and out at ``/v1/webhooks``."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.webhooks.event_types import EVENT_TYPES, EventType

Url = Annotated[
    str,
    Field(
        min_length=1,
        max_length=2000,
        description="https, on the open internet; redirects are not followed",
    ),
]
Events = Annotated[list[EventType], Field(min_length=1)]
Description = Annotated[str, Field(max_length=500)]
DeliveryStatus = Literal["pending", "succeeded", "failed"]


class WebhookIn(BaseModel):
    """A server to tell of events, of all of them unless it says which."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"url": "https://platform.example/hooks", "events": ["attribution.succeeded"]}
            ]
        },
    )

    url: Url
    events: Events = Field(default_factory=lambda: list(EVENT_TYPES))
    description: Description = ""


class WebhookChange(BaseModel):
    """What shall be different; the rest stays."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"enabled": True}]})

    url: Url | None = None
    events: Events | None = None
    description: Description | None = None
    enabled: bool | None = Field(None, description="True forgives what was given up before")


class SecretOut(BaseModel):
    """A signing secret as it can be shown again and again: without the secret."""

    model_config = ConfigDict(from_attributes=True)

    previous_until: datetime | None = Field(description="Until then the one before signs too")


class NewSecret(SecretOut):
    """A signing secret that was just made; it is shown this once."""

    secret: str


class WebhookOut(SecretOut):
    """An endpoint.  ``given_up`` are its deliveries in a row that were given up."""

    id: str
    url: str
    events: list[EventType]
    description: str
    given_up: int
    disabled_at: datetime | None
    disabled_because: Literal["asked", "failing", "gone"] | None
    created_at: datetime


class NewWebhook(WebhookOut):
    """An endpoint that was just made; ``secret`` is shown this once."""

    secret: str


class DeliveryOut(BaseModel):
    """A message: ``id`` is the receiver's ``webhook-id``, in every attempt.

    ``webhook`` is null where an attribution named the URL itself; ``subject`` is what is told of.
    """

    model_config = ConfigDict(from_attributes=True)

    id: str
    webhook: str | None = Field(validation_alias="endpoint_id")
    event: EventType | Literal["webhook.test"]
    subject: str = Field(validation_alias="subject_id")
    status: DeliveryStatus
    attempts: int
    response_status: int | None
    error: str | None
    created_at: datetime
    attempted_at: datetime | None
    ended_at: datetime | None
