"""``client.datasets``, ``client.samples`` and ``client.contributors``: what was trained on."""

from __future__ import annotations

import os
from collections.abc import Mapping

from headwater_client.answers import body, body_as, no_body
from headwater_client.listing import listing
from headwater_client.models.base import Page
from headwater_client.models.catalogue import (
    CataloguedSample,
    Contributor,
    Dataset,
    Refused,
    Sample,
)
from headwater_client.operation import Ask, Ref, Resource, identifier, operation
from headwater_client.runners import R

READING_SECONDS = 3600.0  # registering decodes every image


class Datasets(Resource[R]):
    """Training images on the server."""

    @operation("POST", "/v1/datasets")
    def register(
        self,
        name: str,
        path: str | os.PathLike[str],
        *,
        fields: Mapping[str, str] | None = None,
        skip_invalid: bool = False,
    ) -> Ask[Dataset]:
        """Register images, by their path on the server; the same ones again are no error.

        ``fields`` says under which name the data has what (``{"creator": "artist"}``).
        ``skip_invalid`` leaves out images that cannot be used; ``refused`` lists them.
        """
        wanted = {"name": name, "path": os.fspath(path), "skip_invalid": skip_invalid}
        return Ask(
            body_as(Dataset), json=wanted | {"fields": dict(fields or {})}, patience=READING_SECONDS
        )

    @operation("GET", "/v1/datasets/{dataset}")
    def get(self, dataset: Ref) -> Ask[Dataset]:
        """A dataset, by id or name."""
        return Ask(body_as(Dataset))

    @listing("/v1/datasets")
    def list(self, *, page_size: int = 50) -> Ask[Page[Dataset]]:
        """Datasets, newest first."""
        return Ask(body_as(Page[Dataset]), {"limit": page_size})

    @operation("DELETE", "/v1/datasets/{dataset}")
    def delete(self, dataset: Ref) -> Ask[None]:
        """Forget a dataset that no index or takedown needs; the folder is left alone."""
        return Ask(no_body)

    @listing("/v1/datasets/{dataset}/refused")
    def refused(self, dataset: Ref, *, page_size: int = 50) -> Ask[Page[Refused]]:
        """What its registration left out, and why."""
        return Ask(body_as(Page[Refused]), {"limit": page_size})

    @listing("/v1/datasets/{dataset}/samples")
    def samples(self, dataset: Ref, *, page_size: int = 50) -> Ask[Page[Sample]]:
        """Its training images, by key."""
        return Ask(body_as(Page[Sample]), {"limit": page_size})


class Samples(Resource[R]):
    """Training images, of all datasets."""

    @listing("/v1/samples")
    def list(
        self,
        *,
        dataset: Ref | None = None,
        key: str | None = None,
        creator: str | None = None,
        licence: str | None = None,
        opted_out: bool | None = None,
        page_size: int = 50,
    ) -> Ask[Page[CataloguedSample]]:
        """Training images that are all of what is asked for."""
        wanted = {
            "dataset": None if dataset is None else identifier(dataset),
            "key": key,
            "creator": creator,
            "licence": licence,
            "opted_out": opted_out,
            "limit": page_size,
        }
        return Ask(body_as(Page[CataloguedSample]), wanted)

    @operation("GET", "/v1/datasets/{dataset}/samples/{key}")
    def get(self, dataset: Ref, key: str) -> Ask[CataloguedSample]:
        """One training image."""
        return Ask(body_as(CataloguedSample))

    @operation("GET", "/v1/datasets/{dataset}/samples/{key}/image")
    def image(self, dataset: Ref, key: str) -> Ask[bytes]:
        """Its file."""
        return Ask(body)

    @operation("GET", "/v1/datasets/{dataset}/samples/{key}/thumbnail")
    def thumbnail(self, dataset: Ref, key: str) -> Ask[bytes]:
        """A small PNG of it."""
        return Ask(body)


class Contributors(Resource[R]):
    """Creators of training images."""

    @listing("/v1/contributors")
    def list(self, *, page_size: int = 50) -> Ask[Page[Contributor]]:
        """Creators by name, with how many images there are and under which licences."""
        return Ask(body_as(Page[Contributor]), {"limit": page_size})
