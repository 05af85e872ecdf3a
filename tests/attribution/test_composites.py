"""Reference test 7: each half of a picture put together from two names its own source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import rankdata
from shared_kernel import products_with

from attribution.denoisers import Denoiser
from attribution.features import Batch, GradientFeatures
from attribution.image_set import ImageSet
from attribution.index.config import IndexConfig
from attribution.methods.das import region_scores
from demo.dataset import build
from demo.paths import MODEL

IMAGES, PAIRS = 80, 12


@pytest.mark.timeout(900)
def test_halves_name_their_sources(tmp_path: Path) -> None:
    build(tmp_path / "emoji")
    folder = ImageSet(tmp_path / "emoji")
    chosen = np.random.default_rng(0).choice(len(folder), IMAGES, replace=False)
    config = IndexConfig(timesteps=5, projection_dim=3000)
    extractor = GradientFeatures(Denoiser.load(MODEL), config)

    def features(
        images: list[Image.Image], keys: list[str], captions: list[str | None]
    ) -> np.ndarray:
        batch = Batch(keys, images, captions, [None] * len(keys))
        return extractor.extract(batch).gradients[:, 0].double().numpy()

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

    products, leverages = products_with(phi, asked, 0.03)
    own, other = [], []
    for a, product in enumerate(products):
        effects = product / (1 - leverages)
        scores = region_scores(effects[None, :, None], np.ones((len(phi), 1)))[0]
        left = rankdata(-scores[:, [0, 2]].sum(axis=1))
        right = rankdata(-scores[:, [1, 3]].sum(axis=1))
        own += [left[a], right[a + PAIRS]]
        other += [right[a], left[a + PAIRS]]
    print("median rank, own half:", np.median(own), "other half:", np.median(other))
    assert np.median(own) <= 4
    assert np.median(other) > 4 * np.median(own)
