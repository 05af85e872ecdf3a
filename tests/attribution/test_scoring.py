"""A table of scores says of every picture what a question about it alone is answered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from attribution import scoring
from attribution.attributor import Attributor, must_be_finite
from attribution.denoisers import Denoiser
from attribution.embeddings import ClipEmbedder
from attribution.errors import InputError
from attribution.features import GradientFeatures
from attribution.image_set import ImageSet
from attribution.index.build import IndexBuilder
from attribution.index.search import Index
from attribution.index.shards import FeatureShards
from attribution.methods import METHODS, config_for


@pytest.mark.parametrize("name", ["das", "das-frobenius", "das-t", "trak", "gradient-cosine"])
def test_tables_in_blocks_are_answers_one_by_one(
    tmp_path: Path,
    tiny_ddpm: Path,
    tiny_clip: Path,
    tiny_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    folder, denoiser = ImageSet(tiny_folder), Denoiser.load(tiny_ddpm)
    config = config_for(name, timesteps=2, projection_dim=300, store="float32")
    extractor = GradientFeatures(denoiser, config)
    build = IndexBuilder(tmp_path / "index", extractor, folder)
    build.extract(0)
    clip = ClipEmbedder(str(tiny_clip))
    build.finalise(clip)
    index, method = Index(tmp_path / "index"), METHODS[name]

    asked = ImageSet(tiny_folder / "ada")
    queries = FeatureShards(tmp_path, extractor, asked, shard_size=4, queries=True)
    for shard in queries.shards:
        queries.extract(shard.number)
    whole = scoring.score_matrix(index, method, queries)
    attributor = Attributor(index, denoiser, clip)
    for row in range(len(asked)):
        alone = attributor.attribute(asked.image(row), method=name)
        tolerance = 1e-3 * np.abs(alone.scores).max()
        np.testing.assert_allclose(whole[row], alone.scores, rtol=1e-3, atol=tolerance)

    per_pair = np.prod(extractor.shape[:2]) * (extractor.shape[1] if method.all_pairs else 1)
    monkeypatch.setattr(scoring, "ROWS_AT_ONCE", 5)  # of the twelve training images
    monkeypatch.setattr(scoring, "PRODUCTS_AT_ONCE", 15 * per_pair)  # so three queries of a shard
    told: list[float] = []
    blocks = scoring.score_matrix(index, method, queries, told.append)
    np.testing.assert_allclose(blocks, whole, rtol=1e-4, atol=1e-5 * np.abs(whole).max())
    assert told == pytest.approx([4 / 6, 1])
    assert blocks.dtype == np.float32


@pytest.mark.parametrize("score", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_are_refused(score: float) -> None:
    must_be_finite(np.array([[0.0, -1e300]]))
    with pytest.raises(InputError, match="not finite"):
        must_be_finite(np.array([[0.0, score]]))
