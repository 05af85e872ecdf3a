"""What a model was trained on, and whose it is."""

from __future__ import annotations

from datetime import datetime

from headwater_client.models.base import Model


class Dataset(Model):
    """Registered training images on the server.  ``form`` says what they lie in."""

    id: str
    name: str
    path: str
    form: str
    fields: dict[str, str]
    digest: str
    sample_count: int
    refused_count: int
    created_at: datetime


class Refused(Model):
    """What a registration left out, and why."""

    what: str
    reason: str


class Sample(Model):
    """A training image.  ``opt_out`` says of each use that is not wanted how that was said."""

    key: str
    text: str | None = None
    creator: str | None = None
    creator_uri: str | None = None
    licence: str | None = None
    source: str | None = None
    opt_out: dict[str, str] | None = None


class CataloguedSample(Sample):
    """A training image with its dataset, and the paths of its picture and its thumbnail."""

    dataset: str
    image: str
    thumbnail: str


class Contributor(Model):
    """A creator, and what of theirs was trained on."""

    creator: str
    creator_uri: str | None = None
    images: int
    opted_out: int
    licences: list[str]
    datasets: list[str]


class DiffusionModel(Model):
    """A registered model; digests are SHA-256 over its weight files.

    ``lora`` is the LoRA on it, if any; ``follows`` what its prompts are: text, class or nothing.
    """

    id: str
    name: str
    directory: str
    lora: str | None = None
    clip_directory: str
    digest: str
    clip_digest: str
    pipeline_class: str
    follows: str | None = None
    created_at: datetime
