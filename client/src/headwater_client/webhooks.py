"""Receiving webhooks: a message is believed once its signature is right."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from pydantic import ValidationError
from standardwebhooks import Webhook, WebhookVerificationError

from headwater_client.errors import WebhookForgedError, client_problem
from headwater_client.models.base import Model


class Subject(Model):
    """What has ended, how, and where to ask for it, with a key."""

    id: str
    status: str
    url: str


class WebhookEvent(Model):
    """A message.  ``id`` is the same whenever it is sent again: by it repetitions are known.

    ``type``: ``attribution.succeeded``, ``.failed``, ``.canceled``, ``.expired``, ``index.ready``,
    ``index.failed`` or ``webhook.test``.
    """

    id: str
    type: str
    timestamp: datetime
    data: Subject


def verify(payload: bytes | str, headers: Mapping[str, str], secret: str) -> WebhookEvent:
    """The event in a request's body, as it came, if the secret has signed it just now.

    Anything else is a ``WebhookForgedError``: answer it with a 400.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    signing = Webhook(secret)
    try:
        event = signing.verify(payload, lower)
        return WebhookEvent.model_validate({**event, "id": lower["webhook-id"]})
    except WebhookVerificationError as error:
        raise _forged(str(error)) from error
    except (ValidationError, ValueError, TypeError) as error:
        raise _forged("it is not written as a message is") from error


def _forged(why: str) -> WebhookForgedError:
    return WebhookForgedError(
        client_problem("webhook-forged", "The message cannot be believed", why)
    )
