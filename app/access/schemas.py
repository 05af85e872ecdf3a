"""What goes in and out at ``/v1/api-keys``."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator

from app.access.scopes import Scope


class ApiKeyIn(BaseModel):
    """A key to make: at most what the caller's own key opens."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"name": "platform", "scopes": ["attributions:read"]}]},
    )

    name: str = Field(min_length=1, max_length=200)
    scopes: list[Scope] = Field(min_length=1)
    expires_at: AwareDatetime | None = None

    @field_validator("expires_at")
    @classmethod
    def _is_to_come(cls, moment: datetime | None) -> datetime | None:
        if moment is not None and moment <= datetime.now(UTC):
            raise ValueError("lies in the past")
        return moment


class ApiKeyOut(BaseModel):
    """A key as it can be shown again and again: without its secret."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    name: str
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class NewApiKey(ApiKeyOut):
    """A key that was just made; ``secret`` is shown this once."""

    secret: str
