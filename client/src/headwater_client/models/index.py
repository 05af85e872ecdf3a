"""Indexes of training sets, and what was measured of the methods that they answer."""

from __future__ import annotations

import datetime
from typing import Any

from pydantic import Field

from headwater_client.models.base import Model, Progress
from headwater_client.models.problem import Problem


class Evidence(Model):
    """A method's linear datamodelling score: the mean over ``query_set`` ± ``std_error``.

    ``of_limit`` is its fraction of what a perfect predictor would reach.
    """

    method: str
    query_set: str
    lds: float
    std_error: float
    of_limit: float | None = None
    rho: float | None = None
    subsets: int | None = None
    training_seeds: int | None = None
    measured_on: datetime.date | None = None
    protocol: dict[str, Any] = Field(default_factory=dict)


class IndexUrls(Model):
    """Where to go on; paths below the server's address."""

    self: str
    activate: str


class Index(Model):
    """A version of an index.  ``state``: ``building``, ``ready`` or ``failed``.

    ``methods`` are those that it answers, the one that it answers unasked first.
    """

    id: str
    model: str
    dataset: str
    config: dict[str, Any]
    methods: list[str]
    state: str
    active: bool
    progress: Progress
    manifest_digest: str | None = None
    problem: Problem | None = None
    evidence: list[Evidence] = Field(default_factory=list)
    created_at: datetime.datetime
    ready_at: datetime.datetime | None = None
    urls: IndexUrls

    @property
    def ended(self) -> bool:
        """Whether the build is over."""
        return self.state != "building"
