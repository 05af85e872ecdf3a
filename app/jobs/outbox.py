"""The outbox: messages are reserved, sent, and only then removed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.database.tables import OutboxMessage, now

RESERVATION = timedelta(seconds=30)
LONGEST_WAIT = 30.0


def reserve_due(session: Session, limit: int = 50) -> Sequence[OutboxMessage]:
    """Take due messages for a while; should the relay die, they fall due again.

    No lock is held while the broker is spoken to.
    """
    query = (
        select(OutboxMessage)
        .where(OutboxMessage.due_at <= now())
        .order_by(OutboxMessage.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    messages = session.scalars(query).all()
    for message in messages:
        message.due_at = now() + RESERVATION
    return messages


def remove_sent(session: Session, ids: Sequence[int]) -> None:
    """Forget messages that the broker has."""
    session.execute(delete(OutboxMessage).where(OutboxMessage.id.in_(ids)))


def postpone(session: Session, ids: Sequence[int]) -> None:
    """Try again later, ever more slowly."""
    for message in session.scalars(select(OutboxMessage).where(OutboxMessage.id.in_(ids))):
        message.failures += 1
        wait = min(LONGEST_WAIT, 0.5 * 2**message.failures)
        message.due_at = now() + timedelta(seconds=wait)
