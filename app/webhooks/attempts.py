"""The attempts of one delivery, from its first to its end.

Locks are taken in the order job, endpoint, delivery.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from app.database.tables import (
    Signed,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookSecret,
    now,
)

MOST_GIVEN_UP = 5
"""An endpoint that does not take so many deliveries in a row is disabled."""
GONE = 410


@dataclass(frozen=True)
class Attempt:
    """A delivery, where it goes, and what signs it."""

    delivery: WebhookDelivery
    url: str
    signed: Signed


def begin(session: Session, job_id: str) -> Attempt | None:
    """Count another attempt; None where the job has nothing to send any more.

    The delivery may be deleted, it may have been given to another job, its endpoint may be
    disabled: then it has failed.
    """
    query = select(WebhookDelivery).where(*_is_of(job_id)).with_for_update()
    delivery = session.scalars(query).one_or_none()
    if delivery is None:
        return None
    signed: Signed
    if delivery.endpoint_id is None:
        of_tenant = select(WebhookSecret).where(WebhookSecret.tenant_id == delivery.tenant_id)
        url, signed = delivery.url, session.scalars(of_tenant).one()
    else:
        endpoint = session.get_one(WebhookEndpoint, delivery.endpoint_id)
        if endpoint.disabled_at is not None:
            delivery.status, delivery.ended_at = "failed", now()
            delivery.error = "the webhook is disabled"
            return None
        url, signed = endpoint.url, endpoint
    delivery.attempts += 1
    delivery.attempted_at = now()
    delivery.response_status = delivery.error = None
    assert url is not None
    return Attempt(delivery, url, signed)


def note(session: Session, job_id: str, status: int | None, error: str | None) -> None:
    """Keep what the receiver said, or why it said nothing."""
    session.execute(
        update(WebhookDelivery)
        .where(WebhookDelivery.job_id == job_id)
        .values(response_status=status, error=error)
    )


def end(session: Session, job_id: str, status: str) -> None:
    """End the delivery of a job that has ended, and draw the consequences for its endpoint."""
    delivery = session.scalars(select(WebhookDelivery).where(*_is_of(job_id))).one_or_none()
    if delivery is None:
        return
    endpoint = delivery.endpoint_id and session.get(
        WebhookEndpoint, delivery.endpoint_id, with_for_update={"key_share": True}
    )
    # It may have been given to another job while the endpoint was waited for.
    ended = (
        update(WebhookDelivery)
        .where(*_is_of(job_id))
        .values(status=status, ended_at=now())
        .returning(WebhookDelivery.id)
    )
    if session.scalars(ended).one_or_none() and endpoint:
        _judge(endpoint, status, delivery.response_status)


def disable(endpoint: WebhookEndpoint, because: str) -> None:
    """Tell the endpoint nothing more, unless that is so already."""
    if endpoint.disabled_at is None:
        endpoint.disabled_at, endpoint.disabled_because = now(), because


def _judge(endpoint: WebhookEndpoint, status: str, response_status: int | None) -> None:
    if status == "succeeded":
        endpoint.given_up = 0
        return
    endpoint.given_up += 1
    if response_status == GONE:
        disable(endpoint, "gone")
    elif endpoint.given_up >= MOST_GIVEN_UP:
        disable(endpoint, "failing")


def _is_of(job_id: str) -> tuple[ColumnElement[bool], ...]:
    return WebhookDelivery.job_id == job_id, WebhookDelivery.status == "pending"
