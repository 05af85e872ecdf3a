"""Asking an index: which training images is this picture owed to?"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from attribution.denoisers import Denoiser, Drawing
from attribution.embeddings import ClipEmbedder
from attribution.errors import InputError
from attribution.features import (
    Batch,
    FeatureExtractor,
    GradientFeatures,
    JourneyFeatures,
    feature_extractor,
)
from attribution.image_set import as_rgb
from attribution.index.manifest import Manifest
from attribution.index.search import Index
from attribution.index.shards import query_key
from attribution.methods import MethodError, method_for, methods_of
from attribution.methods.method import Method

Candidates = Literal["exhaustive", "clip"]


@dataclass(frozen=True)
class Attribution:
    """Scores of the considered training images, in the index's order.

    ``effects`` ``(c, m)``, one per output, are signed but for ``das-frobenius``; ``parts``
    ``(c, m)`` are what each output adds to the method's ``scores`` ``(c,)``; ``clip_similarities``
    ``(c,)`` cosines with the picture, ``cosines`` those ``(s, s)`` of some of them with each other.
    """

    manifest: Manifest
    method: str
    candidates: Candidates
    keys: list[str]
    effects: NDArray[np.float64]
    parts: NDArray[np.float64]
    scores: NDArray[np.float64]
    clip_similarities: NDArray[np.float64]
    cosines: Callable[[NDArray[np.int64]], NDArray[np.float64]]

    def without(self, keys: Collection[str]) -> Attribution:
        """The same as if some training images had not been considered."""
        kept = np.array([i for i, key in enumerate(self.keys) if key not in keys], dtype=np.int64)
        return replace(
            self,
            keys=[self.keys[i] for i in kept],
            effects=self.effects[kept],
            parts=self.parts[kept],
            scores=self.scores[kept],
            clip_similarities=self.clip_similarities[kept],
            cosines=lambda positions: self.cosines(kept[positions]),
        )


class Attributor:
    """An opened index with the model it was built from."""

    def __init__(self, index: Index, denoiser: Denoiser, clip: ClipEmbedder) -> None:
        self.extractor = feature_extractor(index.manifest.config, denoiser, clip)
        for what, built, given in (
            ("model", index.manifest.model_digest, self.extractor.identity),
            ("CLIP", index.manifest.clip_digest, clip.digest),
        ):
            if built != given:
                raise InputError(
                    f"the index was built from another {what} ({built[:12]}, not {given[:12]})"
                )
        self.index = index
        self.denoiser = denoiser
        self.clip = clip

    def attribute(
        self,
        image: Image.Image,
        *,
        caption: str | None = None,
        drawing: Drawing | None = None,
        method: str | None = None,
        candidates: Candidates = "exhaustive",
        candidate_count: int = 200,
        on_progress: Callable[[str, float], None] | None = None,
    ) -> Attribution:
        """Score every training image, or the ``candidate_count`` nearest by CLIP.

        ``caption`` is the prompt and ``drawing`` how the model drew it, where they are known.
        ``method`` is the first that the index answers, unless said.  ``on_progress`` is told a
        stage and the fraction of that stage.
        """
        report = on_progress or (lambda stage, fraction: None)
        config = self.index.manifest.config
        scoring = method_for(method or methods_of(config)[0], config)
        image = as_rgb(image)
        features = query_extractor(scoring, self.extractor, drawing).extract(
            Batch([query_key(image)], [image], [caption], [drawing.seed if drawing else None]),
            lambda fraction: report("features", fraction),
        )
        report("search", 0.0)
        embedding = self.clip.embed_images([image])[0]
        if candidates == "clip":
            rows = np.sort(self.index.nearest(embedding, candidate_count))
        else:
            rows = np.arange(len(self.index), dtype=np.int64)
        whole = slice(None) if candidates == "exhaustive" else rows
        facts = self.index.facts(whole)
        products = self.index.products(
            query_side(scoring, self.index, features.gradients), whole, all_pairs=scoring.all_pairs
        )
        lengths = features.gradients.double().norm(dim=-1).numpy()
        effects = scoring.effects(products, facts, lengths)
        scores = scoring.score(effects, facts)[0]
        must_be_finite(scores)
        attribution = Attribution(
            manifest=self.index.manifest,
            method=scoring.name,
            candidates=candidates,
            keys=[self.index.keys[row] for row in rows],
            effects=effects[0].mean(axis=1),
            parts=scoring.parts(effects, facts)[0],
            scores=scores,
            clip_similarities=self.index.clip_similarities(embedding, rows),
            cosines=lambda positions: self.index.clip_cosines(rows[positions]),
        )
        report("search", 1.0)
        return attribution


def query_extractor(
    method: Method, extractor: FeatureExtractor, drawing: Drawing | None = None
) -> FeatureExtractor:
    """How queries become features: as training images do, but for Journey TRAK."""
    if "trajectory" not in method.needs:
        return extractor
    if not isinstance(extractor, GradientFeatures):
        raise MethodError(f"{method.name} needs gradients")
    return JourneyFeatures(extractor, drawing)


def must_be_finite(scores: NDArray[np.floating]) -> None:
    """Refuse scores that no number can hold."""
    if not np.isfinite(scores).all():
        raise InputError("some scores are not finite: λ is too small, or gradients are too large")


def query_side(method: Method, index: Index, gradients: torch.Tensor) -> torch.Tensor:
    """What the training images' features are multiplied with: H⁻¹φ, or φ."""
    return index.precondition(gradients) if method.uses_kernel else gradients
