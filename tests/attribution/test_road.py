"""An index of a small folder, built, searched and answered: what the pieces do together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attribution.answers import compose_answer, ranking
from attribution.attributor import Attribution, Attributor, query_key
from attribution.denoisers import Denoiser
from attribution.embeddings import ClipEmbedder
from attribution.image_folder import ImageFolder
from attribution.index.build import IndexBuilder
from attribution.index.config import IndexConfig
from attribution.index.search import Index
from attribution.methods import MethodError

CONFIG = IndexConfig(timesteps=3, projection_dim=400)


def build(
    directory: Path, model: Path, clip: Path, data: Path, config: IndexConfig, **sizes: int
) -> Attributor:
    denoiser, embedder = Denoiser.load(model), ClipEmbedder(str(clip))
    builder = IndexBuilder(directory, denoiser, ImageFolder(data), config, **sizes)
    for shard in builder.shards:
        builder.extract(shard.number)
    builder.finalise(embedder)
    return Attributor(Index(directory, verify=True), denoiser, embedder)


@pytest.fixture(scope="module")
def attributor(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_clip: Path, tiny_folder: Path
) -> Attributor:
    directory = tmp_path_factory.mktemp("index")
    return build(directory, tiny_model, tiny_clip, tiny_folder, CONFIG, shard_size=5)


@pytest.fixture(scope="module")
def picture(tiny_folder: Path) -> Image.Image:
    return Image.open(tiny_folder / "ada/disc.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT)


@pytest.fixture(scope="module")
def asked(attributor: Attributor, picture: Image.Image) -> Attribution:
    return attributor.attribute(picture, caption="disc, ada")


def test_effects_equal_dense_algebra(
    attributor: Attributor, picture: Image.Image, asked: Attribution, tiny_folder: Path
) -> None:
    """What is stored in half precision and searched by FAISS is φᵀH⁻¹φ/(1-h) in float64 NumPy."""
    denoiser, extractor = attributor.denoiser, attributor.extractor
    folder = ImageFolder(tiny_folder)
    train = extractor.extract(
        [sample.key for sample in folder.samples],
        torch.stack([denoiser.encode(folder.image(i)) for i in range(len(folder))]),
        denoiser.condition([sample.text for sample in folder.samples]),
    )
    query = extractor.extract(
        [query_key(picture)], denoiser.encode(picture)[None], denoiser.condition(["disc, ada"])
    ).gradients[0]
    n, m, k = train.gradients.shape
    phi = train.gradients.reshape(-1, k).astype(np.float64)
    K = phi @ phi.T  # the dual form: n·m < k here
    lam = CONFIG.damping * np.trace(K) / k
    solved = np.linalg.solve(K + lam * np.eye(n * m), phi)
    leverage = np.einsum("ik,ik->i", solved, phi)
    products = query @ solved.T / (1 - leverage)
    expected = np.stack([products[q].reshape(n, m)[:, q] for q in range(m)], axis=1)
    assert attributor.index.manifest.damping == pytest.approx(lam, rel=1e-3)
    np.testing.assert_allclose(asked.effects, expected, atol=5e-3 * np.abs(expected).max())
    scores = ((expected * train.residuals[:, None]) ** 2).sum(axis=1)
    np.testing.assert_allclose(asked.scores, scores, atol=5e-3 * scores.max())


def test_same_query_twice_ranks_the_same(
    attributor: Attributor, picture: Image.Image, asked: Attribution
) -> None:
    again = attributor.attribute(picture, caption="disc, ada")
    assert list(ranking(again)) == list(ranking(asked))
    np.testing.assert_array_equal(again.scores, asked.scores)


def test_rebuilding_with_other_batches_and_shards_ranks_the_same(
    tmp_path: Path,
    tiny_model: Path,
    tiny_clip: Path,
    tiny_folder: Path,
    picture: Image.Image,
    asked: Attribution,
) -> None:
    rebuilt = build(
        tmp_path, tiny_model, tiny_clip, tiny_folder, CONFIG, shard_size=3, batch_size=2
    ).attribute(picture, caption="disc, ada")
    assert [rebuilt.keys[i] for i in ranking(rebuilt)] == [asked.keys[i] for i in ranking(asked)]


def test_candidates_are_scored_as_in_the_whole(
    attributor: Attributor, picture: Image.Image, asked: Attribution
) -> None:
    some = attributor.attribute(picture, caption="disc, ada", candidates="clip", candidate_count=4)
    assert len(some.keys) == 4
    whole = dict(zip(asked.keys, asked.scores, strict=True))
    np.testing.assert_allclose(some.scores, [whole[key] for key in some.keys], rtol=1e-4)
    nearest = sorted(asked.keys, key=lambda key: -asked.clip_similarities[asked.keys.index(key)])[
        :4
    ]
    assert sorted(nearest) == some.keys


def test_answer_adds_up(asked: Attribution, tiny_folder: Path) -> None:
    samples = {sample.key: sample for sample in ImageFolder(tiny_folder).samples}
    answer = compose_answer(asked, samples, top_k=5)
    assert [row["rank"] for row in answer["contributors"]] == [1, 2, 3, 4, 5]
    scores = [row["score"] for row in answer["contributors"]]
    assert scores == sorted(scores, reverse=True)
    assert sum(row["share"] for row in answer["by_creator"]) == pytest.approx(1)
    assert {row["licence"] for row in answer["by_licence"]} == {"CC-BY-4.0", "CC-BY-SA-4.0"}
    whole = compose_answer(asked, samples, top_k=12)
    assert np.sum([row["regions"] for row in whole["contributors"]], axis=0) == pytest.approx(
        [1, 1, 1, 1]
    )
    assert whole["listed_share"] == pytest.approx(1)
    assert answer["candidates"] == {
        "strategy": "exhaustive",
        "considered": 12,
        "corpus": 12,
        "exhaustive": True,
    }


def test_method_that_the_index_does_not_hold_is_refused(
    attributor: Attributor, picture: Image.Image
) -> None:
    with pytest.raises(MethodError, match="d-trak needs another index"):
        attributor.attribute(picture, method="d-trak")
    with pytest.raises(MethodError, match="unknown method"):
        attributor.attribute(picture, method="guess")
