"""What a receiver gets: a thin event, signed as Standard Webhooks has it.

Never the question or the answer: who wants them asks for them, with a key.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from standardwebhooks import Webhook

from app.database.tables import WebhookDelivery, now

PLACES = {
    "attribution": "/v1/attributions",
    "index": "/v1/indexes",
    "webhook": "/v1/webhooks",
}


def body(delivery: WebhookDelivery, public_url: str) -> str:
    """The event; the same in every attempt."""
    about, _, status = delivery.event.partition(".")
    url = f"{public_url.rstrip('/')}{PLACES[about]}/{delivery.subject_id}"
    event = {
        "type": delivery.event,
        "timestamp": delivery.created_at.isoformat(),
        "data": {"id": delivery.subject_id, "status": status, "url": url},
    }
    return json.dumps(event, separators=(",", ":"))


def signed_headers(delivery_id: str, body: str, secrets: Sequence[str]) -> list[tuple[str, str]]:
    """The headers of one attempt, with a signature by each secret.

    The id is that of every attempt, so that receivers can tell a repetition; the time is the
    attempt's, so that they can refuse a replay.
    """
    sent = now()
    signatures = [Webhook(secret).sign(delivery_id, sent, body) for secret in secrets]
    return [
        ("content-type", "application/json"),
        ("webhook-id", delivery_id),
        ("webhook-timestamp", str(int(sent.timestamp()))),
        ("webhook-signature", " ".join(signatures)),
    ]
