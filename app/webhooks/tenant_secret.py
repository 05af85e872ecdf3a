"""The secret that signs messages to the ``webhook_url`` of single attributions.

A tenant makes it before it names the first such URL, so that no message goes out unsigned.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.config import Settings
from app.database.tables import WebhookSecret
from app.identifiers import new_id
from app.problems import ProblemError
from app.webhooks import secrets
from app.webhooks.endpoints import check_url, take_turns


def find(session: Session) -> WebhookSecret:
    """The secret of the session's tenant; a 404 problem if there is none."""
    row = _own(session)
    if row is None:
        raise ProblemError(
            404, "webhook-secret-not-found", "There is no webhook secret", "POST makes one"
        )
    return row


def renew(session: Session, settings: Settings, tenant: str) -> tuple[WebhookSecret, str]:
    """A new secret of the tenant, its first or another one."""
    take_turns(session, tenant)
    row = _own(session) or WebhookSecret(id=new_id("sec"))
    secret = secrets.renew(row, settings.secret_keys)
    session.add(row)
    session.flush()
    return row, secret


def accept_url(session: Session, settings: Settings, url: str | None) -> None:
    """Raise a 422 or 409 problem where an attribution's end could not be told to this URL."""
    if url is None:
        return
    check_url(url, settings)
    if _own(session) is None:
        raise ProblemError(
            409,
            "webhook-secret-missing",
            "There is no secret to sign messages with",
            "make one with POST /v1/webhooks/secret",
        )


def _own(session: Session) -> WebhookSecret | None:
    """One row at most: the session sees its tenant's alone."""
    return session.scalars(select(WebhookSecret)).one_or_none()
