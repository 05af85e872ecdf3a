"""API keys."""

from __future__ import annotations

from datetime import datetime

from headwater_client.models.base import Model


class ApiKey(Model):
    """A key as it can be shown again and again: without its secret."""

    id: str
    name: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None


class NewApiKey(ApiKey):
    """A key that was just made; ``secret`` is shown this once."""

    secret: str
