"""Asking an index: which training images is this picture owed to?"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from attribution.denoisers import Denoiser
from attribution.embeddings import ClipEmbedder
from attribution.features import FeatureExtractor
from attribution.image_folder import as_rgb
from attribution.index.manifest import Manifest
from attribution.index.search import Index
from attribution.methods import method_for

Candidates = Literal["exhaustive", "clip"]


@dataclass(frozen=True)
class Attribution:
    """Scores of the considered training images, in the index's order.

    ``effects`` ``(c, m)`` are signed, one per output; ``scores`` ``(c,)`` are the method's;
    ``residuals`` ``(c,)`` r̄; ``clip_similarities`` ``(c,)`` cosines.
    """

    manifest: Manifest
    method: str
    candidates: Candidates
    keys: list[str]
    effects: NDArray[np.float64]
    residuals: NDArray[np.float64]
    scores: NDArray[np.float64]
    clip_similarities: NDArray[np.float64]


class Attributor:
    """An opened index with the model it was built from."""

    def __init__(self, index: Index, denoiser: Denoiser, clip: ClipEmbedder) -> None:
        for what, built, given in (
            ("model", index.manifest.model_digest, denoiser.digest),
            ("CLIP", index.manifest.clip_digest, clip.digest),
        ):
            if built != given:
                raise ValueError(
                    f"the index was built from another {what} ({built[:12]}, not {given[:12]})"
                )
        self.index = index
        self.denoiser = denoiser
        self.clip = clip
        self.extractor = FeatureExtractor(denoiser, index.manifest.config)

    def attribute(
        self,
        image: Image.Image,
        *,
        caption: str | None = None,
        method: str = "das",
        candidates: Candidates = "exhaustive",
        candidate_count: int = 200,
        on_progress: Callable[[str, float], None] | None = None,
    ) -> Attribution:
        """Score every training image, or the ``candidate_count`` nearest by CLIP.

        ``caption`` is the prompt, where it is known.  ``on_progress`` is told a stage and the
        fraction of that stage.
        """
        report = on_progress or (lambda stage, fraction: None)
        scoring = method_for(method, self.index.manifest.config)
        image = as_rgb(image)
        features = self.extractor.extract(
            [query_key(image)],
            self.denoiser.encode(image)[None],
            self.denoiser.condition([caption]),
            lambda fraction: report("features", fraction),
        )
        report("search", 0.0)
        embedding = self.clip.embed_images([image])[0]
        if candidates == "clip":
            rows = np.sort(self.index.nearest(embedding, candidate_count))
        else:
            rows = np.arange(len(self.index), dtype=np.int64)
        effects = self.index.effects(features.gradients[0], rows)
        residuals = self.index.residuals[rows].astype(np.float64)
        attribution = Attribution(
            manifest=self.index.manifest,
            method=scoring.name,
            candidates=candidates,
            keys=[self.index.keys[row] for row in rows],
            effects=effects,
            residuals=residuals,
            scores=scoring.score(effects, residuals),
            clip_similarities=self.index.clip_similarities(embedding, rows),
        )
        report("search", 1.0)
        return attribution


def query_key(image: Image.Image) -> str:
    """Seeds the query's noise: the same pixels get the same noise, under whatever name."""
    return f"query:{hashlib.sha256(image.tobytes()).hexdigest()}"
