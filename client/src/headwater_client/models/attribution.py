"""Attributions and the events on their way."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from headwater_client.models.answer import Answer
from headwater_client.models.base import Model, Progress
from headwater_client.models.problem import Problem

UNFINISHED = frozenset({"queued", "running"})


class AttributionUrls(Model):
    """Where to go on; paths below the server's address."""

    self: str
    events: str
    image: str
    cancel: str
    c2pa: str
    prov: str
    receipt: str


class Attribution(Model):
    """A question, and where the work on it is; ``result`` or ``problem`` once it has ended.

    ``status``: ``queued``, ``running``, ``succeeded``, ``failed``, ``canceled`` or ``expired``.
    """

    id: str
    status: str
    attempt: int = 0
    progress: Progress
    index: str | None = None
    request: dict[str, Any]
    result: Answer | None = None
    problem: Problem | None = None
    created_at: datetime
    expires_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    urls: AttributionUrls

    @property
    def ended(self) -> bool:
        """Whether nothing more is to come."""
        return self.status not in UNFINISHED

    @property
    def answer(self) -> Answer:
        """The result, where there is one; of an attribution that was waited for there is."""
        if self.result is None:
            raise ValueError(f"{self.id} has no result: it is {self.status}")
        return self.result


class Event(Model):
    """A change of an attribution's state; ``id`` is the ``Last-Event-ID`` to go on from."""

    id: int
    status: str
    attempt: int = 0
    progress: Progress
    at: datetime

    @property
    def last(self) -> bool:
        """Whether the attribution has ended with this."""
        return self.status not in UNFINISHED
