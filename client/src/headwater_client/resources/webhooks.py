"""``client.webhooks``: endpoints that are told of what has ended, and their deliveries."""

from __future__ import annotations

from collections.abc import Sequence

from headwater_client.answers import body_as, no_body
from headwater_client.listing import listing
from headwater_client.models.base import Page
from headwater_client.models.webhook import (
    Delivery,
    NewSecret,
    NewWebhook,
    SigningSecret,
    Webhook,
)
from headwater_client.operation import Ask, Ref, Resource, identifier, operation
from headwater_client.runners import R

DELIVERIES = body_as(Page[Delivery])


class Webhooks(Resource[R]):
    """Endpoints.  Nothing that makes an endpoint, a secret or a message is sent twice."""

    @operation("POST", "/v1/webhooks")
    def create(
        self, url: str, *, events: Sequence[str] | None = None, description: str | None = None
    ) -> Ask[NewWebhook]:
        """Have a server told of events, of all by default; its secret is shown once."""
        wanted = {
            "url": url,
            "events": None if events is None else list(events),
            "description": description,
        }
        return Ask(body_as(NewWebhook), json=wanted, repeatable=False)

    @operation("GET", "/v1/webhooks/{webhook}")
    def get(self, webhook: Ref) -> Ask[Webhook]:
        """An endpoint."""
        return Ask(body_as(Webhook))

    @listing("/v1/webhooks")
    def list(self, *, page_size: int = 50) -> Ask[Page[Webhook]]:
        """Endpoints, newest first."""
        return Ask(body_as(Page[Webhook]), {"limit": page_size})

    @operation("PATCH", "/v1/webhooks/{webhook}")
    def change(
        self,
        webhook: Ref,
        *,
        url: str | None = None,
        events: Sequence[str] | None = None,
        description: str | None = None,
        enabled: bool | None = None,
    ) -> Ask[Webhook]:
        """Change what is said; ``enabled=True`` forgives what was given up before."""
        wanted = {
            "url": url,
            "events": None if events is None else list(events),
            "description": description,
            "enabled": enabled,
        }
        return Ask(body_as(Webhook), json=wanted)

    @operation("DELETE", "/v1/webhooks/{webhook}")
    def delete(self, webhook: Ref) -> Ask[None]:
        """Forget an endpoint with its deliveries."""
        return Ask(no_body)

    @operation("POST", "/v1/webhooks/{webhook}/secret")
    def renew_secret(self, webhook: Ref) -> Ask[NewSecret]:
        """A new signing secret; for a day the old one signs too."""
        return Ask(body_as(NewSecret), repeatable=False)

    @operation("POST", "/v1/webhooks/{webhook}/test")
    def test(self, webhook: Ref) -> Ask[Delivery]:
        """Send ``webhook.test``."""
        return Ask(body_as(Delivery), repeatable=False)

    @operation("POST", "/v1/webhooks/secret")
    def renew_tenant_secret(self) -> Ask[NewSecret]:
        """A new secret for the messages to URLs that attributions name themselves."""
        return Ask(body_as(NewSecret), repeatable=False)

    @operation("GET", "/v1/webhooks/secret")
    def tenant_secret(self) -> Ask[SigningSecret]:
        """Whether there is such a secret (a 404 problem if not), and until when two sign."""
        return Ask(body_as(SigningSecret))

    @listing("/v1/webhooks/{webhook}/deliveries")
    def deliveries_of(
        self, webhook: Ref, *, status: str | None = None, page_size: int = 50
    ) -> Ask[Page[Delivery]]:
        """Messages to an endpoint, newest first."""
        return Ask(DELIVERIES, {"status": status, "limit": page_size})

    @listing("/v1/webhooks/deliveries")
    def deliveries(
        self, *, subject: Ref | None = None, status: str | None = None, page_size: int = 50
    ) -> Ask[Page[Delivery]]:
        """Messages to all endpoints and URLs, newest first; of one attribution or index."""
        about = None if subject is None else identifier(subject)
        return Ask(DELIVERIES, {"subject": about, "status": status, "limit": page_size})

    @operation("GET", "/v1/webhooks/deliveries/{delivery}")
    def delivery(self, delivery: Ref) -> Ask[Delivery]:
        """One message."""
        return Ask(body_as(Delivery))

    @operation("POST", "/v1/webhooks/deliveries/{delivery}/redeliver")
    def redeliver(self, delivery: Ref) -> Ask[Delivery]:
        """Send a message again, or at once where it waits."""
        return Ask(body_as(Delivery), repeatable=False)
