"""The servers that a tenant has told of events."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.config import Settings
from app.database.tables import Tenant, WebhookEndpoint
from app.identifiers import new_id
from app.outbound import Outbound, OutboundError
from app.problems import ProblemError
from app.webhooks import attempts, secrets
from app.webhooks.schemas import WebhookChange, WebhookIn


def check_url(url: str, settings: Settings) -> None:
    """Refuse an address that messages cannot go to; a name is looked up when one is sent."""
    try:
        Outbound(private=settings.outbound_private).check(url)
    except OutboundError as reason:
        raise ProblemError(
            422, "webhook-url", "No message can be sent to this URL", str(reason)
        ) from None


def take_turns(session: Session, tenant: str) -> None:
    """Let requests of a tenant that count or look before they write do so one after the other."""
    row = select(Tenant.id).where(Tenant.id == tenant).with_for_update(key_share=True)
    session.execute(row)


def create(
    session: Session, settings: Settings, tenant: str, wanted: WebhookIn
) -> tuple[WebhookEndpoint, str]:
    """A new endpoint and its secret; a 409 problem where the tenant has many already."""
    check_url(wanted.url, settings)
    take_turns(session, tenant)
    there = session.scalar(select(func.count()).select_from(WebhookEndpoint)) or 0
    if there >= settings.webhooks_per_tenant:
        raise ProblemError(409, "too-many-webhooks", "There are too many webhooks", f"{there}")
    endpoint = WebhookEndpoint(
        id=new_id("whk"),
        url=wanted.url,
        events=sorted(set(wanted.events)),
        description=wanted.description,
    )
    secret = secrets.renew(endpoint, settings.secret_keys)
    session.add(endpoint)
    session.flush()
    return endpoint, secret


def find(session: Session, endpoint_id: str, *, lock: bool = False) -> WebhookEndpoint:
    """The endpoint of this id; a 404 problem if there is none."""
    query = select(WebhookEndpoint).where(WebhookEndpoint.id == endpoint_id)
    endpoint = session.scalars(query.with_for_update() if lock else query).one_or_none()
    if endpoint is None:
        raise ProblemError(
            404, "webhook-not-found", "Webhook not found", f"{endpoint_id!r} is unknown"
        )
    return endpoint


def page(session: Session, cursor: str | None, limit: int) -> Sequence[WebhookEndpoint]:
    """Endpoints, newest first, one more than ``limit`` where there are more."""
    query = select(WebhookEndpoint).order_by(WebhookEndpoint.id.desc()).limit(limit + 1)
    if cursor:
        query = query.where(WebhookEndpoint.id < cursor)
    return session.scalars(query).all()


def change(
    session: Session, settings: Settings, endpoint_id: str, wanted: WebhookChange
) -> WebhookEndpoint:
    """Change what is given; enabling forgives what was given up before."""
    if wanted.url is not None:
        check_url(wanted.url, settings)
    endpoint = find(session, endpoint_id, lock=True)
    if wanted.url is not None:
        endpoint.url = wanted.url
    if wanted.events is not None:
        endpoint.events = sorted(set(wanted.events))
    if wanted.description is not None:
        endpoint.description = wanted.description
    if wanted.enabled is True:
        endpoint.disabled_at = endpoint.disabled_because = None
        endpoint.given_up = 0
    elif wanted.enabled is False:
        attempts.disable(endpoint, "asked")
    return endpoint
