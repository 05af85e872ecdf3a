"""An index of a small folder, built, searched and answered: what the pieces do together."""

from __future__ import annotations

import shutil
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from attribution.answers import LIBRARIES, compose_answer, ranking
from attribution.attributor import Attribution, Attributor
from attribution.denoisers import Denoiser, Drawing
from attribution.embeddings import ClipEmbedder
from attribution.errors import InputError
from attribution.features import Batch, FeatureError, GradientFeatures
from attribution.image_set import ImageSet
from attribution.index.build import IndexBuilder
from attribution.index.config import IndexConfig
from attribution.index.search import Index
from attribution.index.shards import query_key
from attribution.methods import MethodError

# So weak a λ that some effects are negative: under the default, none of so few images has one.
CONFIG = IndexConfig(
    timesteps=3,
    projection_dim=400,
    schedule="uniform",
    noise="per-image",
    damping=1.0,
    damping_rule="relative",
)


def build(
    directory: Path, model: Path, clip: Path, data: Path, config: IndexConfig, **sizes: int
) -> Attributor:
    denoiser, embedder = Denoiser.load(model), ClipEmbedder(str(clip))
    extractor = GradientFeatures(denoiser, config)
    builder = IndexBuilder(directory, extractor, ImageSet(data), **sizes)
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
    """What is stored in int8 and searched by FAISS is φᵀH⁻¹φ/(1-h) in float64 NumPy."""
    extractor, folder = attributor.extractor, ImageSet(tiny_folder)
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
    lam = attributor.index.manifest.dampings[0]
    solved = np.linalg.solve(K + lam * np.eye(n * m), phi)
    leverage = np.einsum("ik,ik->i", solved, phi)
    products = query @ solved.T / (1 - leverage)
    expected = np.stack([products[q].reshape(n, m)[:, q] for q in range(m)], axis=1)
    assert lam == pytest.approx(CONFIG.damping * np.trace(K) / k, rel=1e-3)
    np.testing.assert_allclose(asked.effects, expected, atol=1e-2 * np.abs(expected).max())
    scores = ((expected * train.residuals.numpy()) ** 2).sum(axis=1)
    np.testing.assert_allclose(asked.scores, scores, atol=1e-2 * scores.max())


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
    samples = {sample.key: sample for sample in ImageSet(tiny_folder).samples}
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


def test_methods_of_one_index_differ_in_their_last_step(
    attributor: Attributor, picture: Image.Image, asked: Attribution
) -> None:
    """The same effects, squared or signed; with all pairs of regions, more of them."""
    signed, pairs = (
        attributor.attribute(picture, caption="disc, ada", method=method)
        for method in ("das-signed", "das-frobenius")
    )
    assert (asked.method, signed.method) == ("das", "das-signed")
    np.testing.assert_allclose(signed.effects, asked.effects)
    np.testing.assert_allclose(signed.scores, asked.effects.sum(axis=1))
    assert (signed.scores < 0).any()
    assert (signed.scores > 0).any()
    assert (pairs.scores > asked.scores).all()
    assert (pairs.effects > 0).all()
    for attribution in (asked, signed, pairs):
        np.testing.assert_allclose(attribution.parts.sum(axis=1), attribution.scores)


def test_shares_are_the_proponents(
    attributor: Attributor, picture: Image.Image, tiny_folder: Path
) -> None:
    """Where scores are signed, an opponent has no share; owners that are not known are counted."""
    signed = attributor.attribute(picture, caption="disc, ada", method="das-signed")
    samples = {s.key: s for s in ImageSet(tiny_folder).samples if s.creator == "Ada Example"}
    answer = compose_answer(signed, samples, top_k=12)
    total = sum(max(score, 0) for score in signed.scores)
    for row in answer["contributors"]:
        assert row["share"] == pytest.approx(max(row["score"], 0) / total)
        assert (row["creator"] is None) == row["key"].startswith("bob")
    by_creator = {row["creator"]: row for row in answer["by_creator"]}
    assert by_creator.keys() == {"Ada Example", "unknown"}
    listed = [row["share"] for row in answer["contributors"] if row["creator"] is None]
    assert by_creator["unknown"]["share"] == pytest.approx(sum(listed))
    assert by_creator["unknown"]["images"] == 6


def test_standard_errors_are_those_of_a_sum_over_regions(asked: Attribution) -> None:
    """√m times the standard deviation of m = 4 effects; one output alone has none."""
    for row in compose_answer(asked, {}, top_k=3)["contributors"]:
        effects = asked.effects[asked.keys.index(row["key"])]
        assert row["effect"] == pytest.approx(effects.sum())
        deviation = np.sqrt(((effects - effects.mean()) ** 2).sum() / 3)
        assert row["std_error"] == pytest.approx(2 * deviation)
    alone = replace(asked, effects=asked.effects[:, :1], parts=asked.parts[:, :1])
    assert compose_answer(alone, {}, top_k=1)["contributors"][0]["std_error"] is None


def test_an_answer_says_what_it_rests_on(attributor: Attributor, asked: Attribution) -> None:
    manifest = attributor.index.manifest
    assert compose_answer(asked, {}, top_k=1)["rests_on"] == {
        "method": "das",
        **CONFIG.to_dict(),
        "outputs": 4,
        "dimension": manifest.dimension,
        "dampings_absolute": manifest.dampings,
        "model_digest": attributor.denoiser.digest,
        "clip_digest": attributor.clip.digest,
        "index_version": manifest.digest,
        "libraries": {name: version(name) for name in LIBRARIES},
    }


def test_a_drawing_is_followed_where_the_method_asks(
    tmp_path: Path, tiny_ddpm: Path, tiny_clip: Path, tiny_folder: Path
) -> None:
    """Journey TRAK wants how the picture was drawn; TRAK does not care."""
    config = IndexConfig(output="loss", timesteps=2, projection_dim=300)
    attributor = build(tmp_path, tiny_ddpm, tiny_clip, tiny_folder, config)
    drawing = Drawing(seed=3, steps=4)
    drawn = attributor.denoiser.generate("", drawing)
    journey = attributor.attribute(drawn, drawing=drawing, method="journey-trak")
    plain, again = (
        attributor.attribute(drawn, drawing=known, method="trak") for known in (None, drawing)
    )
    np.testing.assert_array_equal(plain.scores, again.scores)
    assert np.abs(journey.scores - plain.scores).max() > 1e-3 * np.abs(plain.scores).max()
    with pytest.raises(FeatureError, match="has no seed"):
        attributor.attribute(drawn, method="journey-trak")


def test_another_model_or_clip_than_the_index_was_built_from_is_refused(
    attributor: Attributor, tiny_ddpm: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="built from another model"):
        Attributor(attributor.index, Denoiser.load(tiny_ddpm), attributor.clip)
    shutil.copytree(tiny_clip, tmp_path / "clip")
    file = tmp_path / "clip" / "open_clip_model.safetensors"
    save_file({name: 2 * p for name, p in load_file(file).items()}, file)
    with pytest.raises(InputError, match="built from another CLIP"):
        Attributor(attributor.index, attributor.denoiser, ClipEmbedder(str(tmp_path / "clip")))


def test_progress_names_its_stages(attributor: Attributor, picture: Image.Image) -> None:
    told: list[tuple[str, float]] = []
    attributor.attribute(picture, on_progress=lambda *stage: told.append(stage))
    assert told == [("features", 1.0), ("search", 0.0), ("search", 1.0)]


def test_method_that_the_index_does_not_hold_is_refused(
    attributor: Attributor, picture: Image.Image
) -> None:
    with pytest.raises(MethodError, match="dtrak needs another index"):
        attributor.attribute(picture, method="dtrak")
    with pytest.raises(MethodError, match="unknown method"):
        attributor.attribute(picture, method="guess")
