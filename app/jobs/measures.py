"""What workers measure, added up in the database for whoever asks an API process."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import insert, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.database.tables import Measure

LEASES_EXPIRED = "lease-expired"
MODEL_LOADED = "model-loaded"
INDEX_OPENED = "index-opened"
INDEX_IN_MEMORY = "index-in-memory"


def count(session: Session, event: str, times: int = 1) -> None:
    """Something happened so many times."""
    if times:
        _add(session, "event", event, times, 0.0)


def add_stages(session: Session, kind: str, seconds: Mapping[str, float]) -> None:
    """A job of this kind spent so long in each stage."""
    for stage, spent in sorted(seconds.items()):
        _add(session, "stage", f"{kind}/{stage}", 1, spent)


def _add(session: Session, name: str, label: str, times: int, total: float) -> None:
    more = (
        update(Measure)
        .where(Measure.name == name, Measure.label == label)
        .values(count=Measure.count + times, total=Measure.total + total)
        .returning(Measure.label)
    )
    if session.execute(more).first():
        return
    try:
        with session.begin_nested():
            first = {"name": name, "label": label, "count": times, "total": total}
            session.execute(insert(Measure).values(**first))
    except IntegrityError:  # somebody else's was the first
        session.execute(more)
