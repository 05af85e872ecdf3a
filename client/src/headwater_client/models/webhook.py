"""Endpoints that are told of events, and the messages on their way."""

from __future__ import annotations

from datetime import datetime

from headwater_client.models.base import Model


class SigningSecret(Model):
    """A signing secret without the secret; until ``previous_until`` the one before signs too."""

    previous_until: datetime | None = None


class NewSecret(SigningSecret):
    """A signing secret that was just made; ``secret`` is shown this once."""

    secret: str


class Webhook(SigningSecret):
    """An endpoint.  ``given_up`` are its deliveries in a row that were given up."""

    id: str
    url: str
    events: list[str]
    description: str = ""
    given_up: int = 0
    disabled_at: datetime | None = None
    disabled_because: str | None = None
    created_at: datetime


class NewWebhook(Webhook, NewSecret):
    """An endpoint that was just made; ``secret`` is shown this once."""


class Delivery(Model):
    """A message: ``id`` is the receiver's ``webhook-id``, in every attempt.

    ``webhook`` is None where an attribution named the URL itself.
    """

    id: str
    webhook: str | None = None
    event: str
    subject: str
    status: str
    attempts: int
    response_status: int | None = None
    error: str | None = None
    created_at: datetime
    attempted_at: datetime | None = None
    ended_at: datetime | None = None
