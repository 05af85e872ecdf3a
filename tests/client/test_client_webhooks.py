"""Endpoints by the client, and messages that a real worker delivers, believed or not."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from programs import wait_for
from standardwebhooks import Webhook as Signing
from webhook_receiver import Message, Receiver

from app.database.tables import now
from headwater_client import Client, WebhookForgedError, webhooks
from headwater_client.models import Index


def came(receiver: Receiver, count: int) -> list[Message]:
    wait_for(lambda: len(receiver.messages) >= count, f"{count} messages")
    return receiver.messages


def test_a_delivered_message_is_an_event(client: Client, index: Index, receiver: Receiver) -> None:
    """From the question to the event that says where its answer is."""
    endpoint = client.webhooks.create(
        receiver.url, events=["attribution.succeeded"], description="ours"
    )
    assert client.webhooks.get(endpoint).description == "ours"
    asked = client.attributions.ask_about_prompt("disc", steps=2, index=index.id)
    (message,) = came(receiver, 1)
    event = webhooks.verify(message.body, message.headers, endpoint.secret)
    assert (event.type, event.data.id, event.data.status) == (
        *("attribution.succeeded", asked.id, "succeeded"),
    )
    assert event.data.url.endswith(asked.urls.self)
    assert event.id == message.id
    assert client.attributions.get(event.data.id).answer.contributors

    (delivery,) = client.webhooks.deliveries(subject=asked)
    wait_for(lambda: client.webhooks.delivery(delivery).status == "succeeded", "the note of it")
    assert [found.id for found in client.webhooks.deliveries_of(endpoint)] == [event.id]
    client.webhooks.redeliver(delivery)
    assert came(receiver, 2)[1].id == event.id

    renewed = client.webhooks.renew_secret(endpoint)
    assert renewed.previous_until is not None
    client.webhooks.test(endpoint)
    tested = came(receiver, 3)[2]
    for secret in (endpoint.secret, renewed.secret):
        assert webhooks.verify(tested.body.encode(), tested.headers, secret).type == "webhook.test"
    changed = client.webhooks.change(endpoint, enabled=False)
    assert changed.disabled_because == "asked"
    assert endpoint.id in [found.id for found in client.webhooks.list()]
    client.webhooks.delete(endpoint)


def test_a_url_of_one_attribution(client: Client, index: Index, receiver: Receiver) -> None:
    """It is signed with the tenant's own secret."""
    secret = client.webhooks.renew_tenant_secret().secret
    assert client.webhooks.tenant_secret().previous_until is None
    asked = client.attributions.ask_about_prompt(
        "disc", steps=2, index=index.id, webhook_url=receiver.url
    )
    (message,) = came(receiver, 1)
    assert webhooks.verify(message.body, message.headers, secret).data.id == asked.id


SECRET = "whsec_" + "c2VjcmV0" * 4
BODY = (
    '{"type":"webhook.test","timestamp":"2026-11-25T03:21:29+00:00",'
    '"data":{"id":"whk_1","status":"test","url":"/v1/webhooks/whk_1"}}'
)


def signed(body: str = BODY, age: int = 0) -> Message:
    sent = now()
    stamp = int(time.time()) - age
    sent = sent.fromtimestamp(stamp, sent.tzinfo)
    headers = {
        "Webhook-Id": "msg_1",
        "Webhook-Timestamp": str(stamp),
        "Webhook-Signature": Signing(SECRET).sign("msg_1", sent, body),
    }
    return Message("/hook", headers, body)


def test_headers_in_any_case() -> None:
    message = signed()
    assert webhooks.verify(message.body, message.headers, SECRET).data.id == "whk_1"


@pytest.mark.parametrize(
    "message",
    [
        signed(age=600),
        replace(signed(), body=BODY.replace("whk_1", "whk_2")),
        replace(signed(), headers={}),
        replace(signed(), headers=signed().headers | {"Webhook-Signature": "nonsense"}),
        replace(signed(), headers=signed().headers | {"Webhook-Id": "msg_2"}),
        signed("[]"),
        signed('{"type": "webhook.test"}'),
        signed("no JSON"),
    ],
    ids=["old", "changed", "unsigned", "nonsense", "another id", "list", "incomplete", "text"],
)
def test_what_cannot_be_believed(message: Message) -> None:
    with pytest.raises(WebhookForgedError, match="cannot be believed") as forged:
        webhooks.verify(message.body, message.headers, SECRET)
    assert forged.value.problem.kind == "webhook-forged"


def test_another_secret() -> None:
    message = signed()
    with pytest.raises(WebhookForgedError):
        webhooks.verify(message.body, message.headers, "whsec_" + "b3RoZXIh" * 4)
