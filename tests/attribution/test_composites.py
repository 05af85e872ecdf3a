"""Reference test 7: each half of a picture put together from two names its own source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import rankdata

from attribution.denoisers import Denoiser
from attribution.features import FeatureExtractor
from attribution.image_folder import ImageFolder
from attribution.index.config import IndexConfig
from attribution.kernel import Kernel
from attribution.methods.das import region_scores
from demo.dataset import build
from demo.paths import MODEL

IMAGES, PAIRS = 80, 12


@pytest.mark.timeout(900)
def test_halves_name_their_sources(tmp_path: Path) -> None:
    build(tmp_path / "emoji")
    folder = ImageFolder(tmp_path / "emoji")
    chosen = np.random.default_rng(0).choice(len(folder), IMAGES, replace=False)
    denoiser = Denoiser.load(MODEL)
    extractor = FeatureExtractor(denoiser, IndexConfig(timesteps=5, projection_dim=3000))

    def features(
        images: list[Image.Image], keys: list[str], captions: list[str | None]
    ) -> np.ndarray:
        x_0 = torch.stack([denoiser.encode(image) for image in images])
        return extractor.extract(keys, x_0, denoiser.condition(captions)).gradients

    samples = [folder.samples[i] for i in chosen]
    images = [folder.image(int(i)) for i in chosen]
    phi = np.concatenate(
        [
            features(
                images[s : s + 20],
                [sample.key for sample in samples[s : s + 20]],
                [sample.text for sample in samples[s : s + 20]],
            )
            for s in range(0, IMAGES, 20)
        ]
    )
    composites = []
    for a in range(PAIRS):
        joined = images[a].copy()
        joined.paste(images[a + PAIRS].crop((16, 0, 32, 32)), (16, 0))
        composites.append(joined)
    asked = features(composites, [f"pair/{i}" for i in range(PAIRS)], [None] * PAIRS)

    n, m, k = phi.shape
    flat = phi.reshape(-1, k)
    kernel = Kernel.of_rows(lambda: [flat], n * m, k)
    rows = kernel.precondition(flat, 0.03) / (1 - kernel.leverages(flat, 0.03))[:, None]
    own, other = [], []
    for a, query in enumerate(asked):
        scores = region_scores(np.einsum("nmk,mk->nm", rows.reshape(n, m, k), query), np.ones(n))
        left = rankdata(-scores[:, [0, 2]].sum(axis=1))
        right = rankdata(-scores[:, [1, 3]].sum(axis=1))
        own += [left[a], right[a + PAIRS]]
        other += [right[a], left[a + PAIRS]]
    print("median rank, own half:", np.median(own), "other half:", np.median(other))
    assert np.median(own) <= 4
    assert np.median(other) > 4 * np.median(own)
