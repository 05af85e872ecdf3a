"""Takedowns."""

from __future__ import annotations

from datetime import datetime

from headwater_client.models.attribution import UNFINISHED
from headwater_client.models.base import Model, Progress
from headwater_client.models.problem import Problem


class Takedown(Model):
    """Images that no answer names any more; the job cleans what was written before."""

    id: str
    dataset: str
    images: int
    reason: str = ""
    status: str
    progress: Progress
    problem: Problem | None = None
    created_at: datetime
    finished_at: datetime | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more is to come."""
        return self.status not in UNFINISHED
