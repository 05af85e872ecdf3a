"""What comes out at ``/v1/samples`` and ``/v1/contributors``."""

from __future__ import annotations

from pydantic import BaseModel

from app.datasets.schemas import SampleOut


class CataloguedSample(SampleOut):
    """A training image with where it is to be found."""

    dataset: str
    image: str
    thumbnail: str


class Contributor(BaseModel):
    """A creator, and what of theirs was trained on."""

    creator: str
    creator_uri: str | None
    images: int
    opted_out: int
    licences: list[str]
    datasets: list[str]
