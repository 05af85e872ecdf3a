"""The answer: whose training images a picture came from."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from headwater_client.models.base import Model
from headwater_client.models.index import Evidence


class Contribution(Model):
    """A training image and its influence, with the standard error over the regions."""

    rank: int
    key: str
    text: str | None = None
    creator: str | None = None
    creator_uri: str | None = None
    licence: str | None = None
    source: str | None = None
    opt_out: dict[str, str] | None = None
    score: float
    effect: float
    std_error: float | None = None
    share: float
    clip_similarity: float | None = None
    regions: list[float] | None = None


class CreatorShare(Model):
    """What share of all considered images' influence a creator's have."""

    creator: str
    share: float
    std_error: float | None = None
    images: int


class LicenceShare(Model):
    """What share of all considered images' influence those under a licence have."""

    licence: str
    share: float
    std_error: float | None = None
    images: int


class LicenceConflict(Model):
    """What licences ask for, or that somebody does not want this, and of how much influence."""

    kind: str
    why: str
    licences: list[str]
    share: float
    images: int


class Candidates(Model):
    """How many training images were scored, of how many, and how they were chosen."""

    strategy: str
    considered: int
    corpus: int
    exhaustive: bool


class Answer(Model):
    """An influence estimate, not proof of copying.

    ``rests_on`` holds what is needed to repeat it, ``evidence`` what was measured of the method.
    """

    contributors: list[Contribution]
    by_creator: list[CreatorShare]
    by_licence: list[LicenceShare]
    listed_share: float
    unattributed_share: float | None = None
    near_duplicates: list[list[str]] = Field(default_factory=list)
    licence_conflicts: list[LicenceConflict] = Field(default_factory=list)
    candidates: Candidates
    rests_on: dict[str, Any]
    evidence: list[Evidence] = Field(default_factory=list)
    redacted: int = 0
    statement: str = ""
