"""Deliveries, written in the transaction that ends what they tell of: none is lost or untrue."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.database.tables import IndexVersion, Job, WebhookDelivery, WebhookEndpoint
from app.identifiers import new_id
from app.webhooks.event_types import EVENT_TYPES


def tell_of_attribution(session: Session, job_id: str, status: str) -> None:
    """Make the deliveries of an attribution's new status, if it is an end."""
    event = f"attribution.{status}"
    if event not in EVENT_TYPES:
        return
    job = session.execute(select(Job.tenant_id, Job.webhook_url).where(Job.id == job_id)).one()
    _tell_endpoints(session, job.tenant_id, event, job_id)
    if job.webhook_url:
        session.add(new_delivery(job.tenant_id, event, job_id, url=job.webhook_url))


def tell_of_index(session: Session, index_id: str, state: str) -> None:
    """Make the deliveries of an index that is ready or has failed."""
    owner = select(IndexVersion.tenant_id).where(IndexVersion.id == index_id)
    _tell_endpoints(session, session.scalars(owner).one(), f"index.{state}", index_id)


def new_delivery(
    tenant_id: str,
    event: str,
    subject_id: str,
    *,
    endpoint_id: str | None = None,
    url: str | None = None,
) -> WebhookDelivery:
    """A message that has not been sent; its id is the receiver's ``webhook-id``."""
    return WebhookDelivery(
        id=new_id("msg"),
        tenant_id=tenant_id,
        event=event,
        subject_id=subject_id,
        endpoint_id=endpoint_id,
        url=url,
    )


def _tell_endpoints(session: Session, tenant_id: str, event: str, subject_id: str) -> None:
    # Held until the commit: an endpoint that is deleted meanwhile must not fail what has ended.
    listening = (
        select(WebhookEndpoint)
        .where(WebhookEndpoint.tenant_id == tenant_id, WebhookEndpoint.disabled_at.is_(None))
        .order_by(WebhookEndpoint.id)
        .with_for_update(read=True, key_share=True)
    )
    for endpoint in session.scalars(listening):
        if event in endpoint.events:
            session.add(new_delivery(tenant_id, event, subject_id, endpoint_id=endpoint.id))
