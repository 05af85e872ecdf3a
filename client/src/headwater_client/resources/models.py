"""``client.models``: diffusion models, and what was measured of the methods on them."""

from __future__ import annotations

import builtins
import os
from collections.abc import Mapping
from typing import Any

from headwater_client.answers import body_as, no_body
from headwater_client.listing import listing
from headwater_client.models.base import Page
from headwater_client.models.catalogue import DiffusionModel
from headwater_client.models.index import Evidence
from headwater_client.operation import Ask, Ref, Resource, identifier, operation
from headwater_client.runners import R

HASHING_SECONDS = 600.0  # registering hashes the weights
MEASURED = body_as(builtins.list[Evidence])


class Models(Resource[R]):
    """Registered diffusion models."""

    @operation("POST", "/v1/models")
    def register(
        self,
        name: str,
        path: str | os.PathLike[str],
        clip_path: str | os.PathLike[str],
        lora_path: str | os.PathLike[str] | None = None,
    ) -> Ask[DiffusionModel]:
        """Register a diffusers and an open_clip directory, by their paths on the server.

        ``lora_path`` is a LoRA that is put on the model: a directory or a safetensors file.
        """
        wanted = {"name": name, "path": os.fspath(path), "clip_path": os.fspath(clip_path)}
        if lora_path is not None:
            wanted["lora_path"] = os.fspath(lora_path)
        return Ask(body_as(DiffusionModel), json=wanted, patience=HASHING_SECONDS)

    @operation("GET", "/v1/models/{model}")
    def get(self, model: Ref) -> Ask[DiffusionModel]:
        """A model, by id or name."""
        return Ask(body_as(DiffusionModel))

    @listing("/v1/models")
    def list(self, *, page_size: int = 50) -> Ask[Page[DiffusionModel]]:
        """Models, newest first."""
        return Ask(body_as(Page[DiffusionModel]), {"limit": page_size})

    @operation("DELETE", "/v1/models/{model}")
    def delete(self, model: Ref) -> Ask[None]:
        """Forget a model that no index needs; its directory is left alone."""
        return Ask(no_body)

    @operation("POST", "/v1/models/{model}/evidence")
    def record_evidence(
        self, model: Ref, dataset: Ref, report: Mapping[str, Any]
    ) -> Ask[builtins.list[Evidence]]:
        """Let answers carry what ``headwater evaluate lds`` has measured and written."""
        return Ask(MEASURED, json={"dataset": identifier(dataset), "report": report})

    @operation("GET", "/v1/models/{model}/evidence")
    def evidence(self, model: Ref) -> Ask[builtins.list[Evidence]]:
        """What was measured of the methods on a model."""
        return Ask(MEASURED)
