"""``client.api_keys``: who may do what."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from headwater_client.answers import body_as
from headwater_client.listing import listing
from headwater_client.models.base import Page
from headwater_client.models.keys import ApiKey, NewApiKey
from headwater_client.operation import Ask, Ref, Resource, operation
from headwater_client.runners import R


class ApiKeys(Resource[R]):
    """Keys of one's own tenant."""

    @operation("POST", "/v1/api-keys")
    def create(
        self, name: str, scopes: Sequence[str], *, expires_at: datetime | None = None
    ) -> Ask[NewApiKey]:
        """Make a key that opens no more than one's own; its secret is shown once.

        It is not sent again unless nobody has heard it: there would be a key that nobody knows.
        """
        until = None if expires_at is None else expires_at.isoformat()
        wanted = {"name": name, "scopes": list(scopes), "expires_at": until}
        return Ask(body_as(NewApiKey), json=wanted, repeatable=False)

    @listing("/v1/api-keys")
    def list(self, *, page_size: int = 50) -> Ask[Page[ApiKey]]:
        """Keys, newest first, revoked ones too."""
        return Ask(body_as(Page[ApiKey]), {"limit": page_size})

    @operation("DELETE", "/v1/api-keys/{key}")
    def revoke(self, key: Ref) -> Ask[ApiKey]:
        """Close a key for ever."""
        return Ask(body_as(ApiKey))
