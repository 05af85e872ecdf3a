"""Deliveries as their tenant sees them, and the jobs that make them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.config import Settings
from app.database.tables import WebhookDelivery, WebhookEndpoint
from app.jobs.kinds import WEBHOOK_DELIVERY
from app.jobs.submission import submit
from app.problems import ProblemError
from app.webhooks import endpoints
from app.webhooks.event_types import TEST
from app.webhooks.notices import new_delivery


def submit_deliveries(session: Session, settings: Settings, limit: int = 50) -> int:
    """Submit the jobs of deliveries that have none; return how many there were.

    What ends a job knows no settings, and need not wait for this.
    """
    new = (
        select(WebhookDelivery)
        .where(WebhookDelivery.status == "pending", WebhookDelivery.job_id.is_(None))
        .order_by(WebhookDelivery.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    deliveries = session.scalars(new).all()
    for delivery in deliveries:
        job = submit(session, settings, WEBHOOK_DELIVERY, {}, tenant_id=delivery.tenant_id)
        job.max_attempts = len(settings.webhook_pauses) + 1
        delivery.job_id = job.id
    return len(deliveries)


def find(session: Session, delivery_id: str, *, lock: bool = False) -> WebhookDelivery:
    """The delivery of this id; a 404 problem if there is none."""
    delivery = session.get(WebhookDelivery, delivery_id, with_for_update=lock)
    if delivery is None:
        raise ProblemError(
            404, "delivery-not-found", "Delivery not found", f"{delivery_id!r} is unknown"
        )
    return delivery


def page(
    session: Session,
    cursor: str | None,
    limit: int,
    *,
    endpoint_id: str | None = None,
    subject_id: str | None = None,
    status: str | None = None,
) -> Sequence[WebhookDelivery]:
    """Deliveries, newest first, one more than ``limit`` where there are more."""
    query = select(WebhookDelivery).order_by(WebhookDelivery.id.desc()).limit(limit + 1)
    if endpoint_id:
        query = query.where(WebhookDelivery.endpoint_id == endpoint_id)
    if subject_id:
        query = query.where(WebhookDelivery.subject_id == subject_id)
    if status:
        query = query.where(WebhookDelivery.status == status)
    if cursor:
        query = query.where(WebhookDelivery.id < cursor)
    return session.scalars(query).all()


def send_test(session: Session, endpoint_id: str) -> WebhookDelivery:
    """A message that says no more than that the endpoint is there."""
    endpoint = _enabled(endpoints.find(session, endpoint_id))
    delivery = new_delivery(endpoint.tenant_id, TEST, endpoint.id, endpoint_id=endpoint.id)
    session.add(delivery)
    session.flush()
    return delivery


def redeliver(session: Session, delivery_id: str) -> WebhookDelivery:
    """Begin a delivery anew, at once, under the same id; an attempt of before counts no more."""
    delivery = find(session, delivery_id, lock=True)
    if delivery.endpoint_id is not None:
        _enabled(endpoints.find(session, delivery.endpoint_id))
    delivery.status, delivery.job_id = "pending", None
    delivery.response_status = delivery.error = delivery.ended_at = None
    return delivery


def forget_deliveries(session: Session, subject_ids: Collection[str]) -> None:
    """Delete what tells of something deleted; what was not sent yet never is."""
    session.execute(delete(WebhookDelivery).where(WebhookDelivery.subject_id.in_(subject_ids)))


def _enabled(endpoint: WebhookEndpoint) -> WebhookEndpoint:
    if endpoint.disabled_at is not None:
        raise ProblemError(
            409,
            "webhook-disabled",
            "The webhook is disabled",
            "enable it with PATCH before something is sent",
        )
    return endpoint
