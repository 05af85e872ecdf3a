"""An index of a small folder, built, searched and answered: what the pieces do together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attribution.answers import compose_answer, ranking
from attribution.attributor import Attribution, Attributor
from attribution.denoisers import Denoiser
from attribution.embeddings import ClipEmbedder
from attribution.features import Batch, GradientFeatures
from attribution.image_folder import ImageFolder
from attribution.index.build import IndexBuilder
from attribution.index.config import IndexConfig
from attribution.index.manifest import IndexFormatError
from attribution.index.search import Index
from attribution.index.shards import query_key
from attribution.methods import MethodError

CONFIG = IndexConfig(timesteps=3, projection_dim=400)


def build(
    directory: Path, model: Path, clip: Path, data: Path, config: IndexConfig, **sizes: int
) -> Attributor:
    denoiser, embedder = Denoiser.load(model), ClipEmbedder(str(clip))
    extractor = GradientFeatures(denoiser, config)
    builder = IndexBuilder(directory, extractor, ImageFolder(data), **sizes)
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
    extractor, folder = attributor.extractor, ImageFolder(tiny_folder)
    train = extractor.extract(
        Batch(
            [sample.key for sample in folder.samples],
            [folder.image(i) for i in range(len(folder))],
            [sample.text for sample in folder.samples],
            [None] * len(folder),
        )
    )
    asking = Batch([query_key(picture)], [picture], ["disc, ada"], [None])
    query = extractor.extract(asking).gradients[0, 0].numpy()
    n, _, m, k = train.gradients.shape
    phi = train.gradients.reshape(-1, k).double().numpy()
    K = phi @ phi.T  # the dual form: n·m < k here
    lam = CONFIG.damping * np.trace(K) / k
    solved = np.linalg.solve(K + lam * np.eye(n * m), phi)
    leverage = np.einsum("ik,ik->i", solved, phi)
    products = query @ solved.T / (1 - leverage)
    expected = np.stack([products[q].reshape(n, m)[:, q] for q in range(m)], axis=1)
    assert attributor.index.manifest.dampings == pytest.approx([lam], rel=1e-3)
    np.testing.assert_allclose(asked.effects, expected, atol=5e-3 * np.abs(expected).max())
    scores = ((expected * train.residuals.numpy()) ** 2).sum(axis=1)
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
    with pytest.raises(MethodError, match="dtrak needs another index"):
        attributor.attribute(picture, method="dtrak")
    with pytest.raises(MethodError, match="unknown method"):
        attributor.attribute(picture, method="guess")


def test_an_index_is_written_once_and_its_shards_go(
    tmp_path: Path, tiny_model: Path, tiny_folder: Path
) -> None:
    extractor = GradientFeatures(Denoiser.load(tiny_model), CONFIG)
    builder = IndexBuilder(tmp_path, extractor, ImageFolder(tiny_folder), shard_size=5)
    with pytest.raises(ValueError, match=r"shards \[0, 1, 2\]"):
        builder.finalise(None)
    for shard in builder.shards:
        builder.extract(shard.number)
    manifest = builder.finalise(None)
    assert not (tmp_path / "shards").exists()
    written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    builder.extract(0)
    assert builder.finalise(None) == manifest
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == written

    index = Index(tmp_path, verify=True)
    with pytest.raises(IndexFormatError, match="without CLIP"):
        index.nearest(np.zeros(8, dtype=np.float32), 3)
    with (tmp_path / "directions.bin").open("ab") as file:
        file.truncate(100)
    with pytest.raises(IndexFormatError, match="missing or damaged"):
        Index(tmp_path)


def test_an_index_without_kernel_says_so(
    tmp_path: Path, tiny_model: Path, tiny_folder: Path
) -> None:
    extractor = GradientFeatures(Denoiser.load(tiny_model), CONFIG)
    builder = IndexBuilder(tmp_path, extractor, ImageFolder(tiny_folder))
    builder.extract(0)
    builder.finalise(None, with_kernel=False)
    with pytest.raises(IndexFormatError, match="holds no kernel"):
        Index(tmp_path).precondition(torch.zeros(1, *extractor.shape))
