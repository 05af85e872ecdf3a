"""Reference test 5: a sample's features are its own, whatever it is computed with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attribution.denoisers import Denoiser, Drawing
from attribution.embeddings import ClipEmbedder
from attribution.features import (
    Batch,
    FeatureError,
    Features,
    GradientFeatures,
    JourneyFeatures,
    RunningMean,
    feature_extractor,
)
from attribution.image_set import ImageSet
from attribution.index.config import ConfigError, IndexConfig, Noise, Normalisation


def batch_of(folder: ImageSet, rows: list[int]) -> Batch:
    samples = [folder.samples[i] for i in rows]
    return Batch(
        [sample.key for sample in samples],
        [folder.image(i) for i in rows],
        [sample.text for sample in samples],
        [None] * len(rows),
    )


def extract(extractor: GradientFeatures, folder: ImageSet, rows: list[int]) -> Features:
    return extractor.extract(batch_of(folder, rows))


@pytest.mark.parametrize("config", [
    IndexConfig(timesteps=2, projection_dim=300),
    IndexConfig(timesteps=2, projection_dim=300, output="square", normalisation="timestep"),
    IndexConfig(timesteps=2, projection_dim=300, output="dct", normalisation="elementwise"),
])  # fmt: skip
def test_batch_size_and_order_change_nothing(
    tiny_model: Path, tiny_folder: Path, config: IndexConfig
) -> None:
    folder = ImageSet(tiny_folder)
    extractor = GradientFeatures(Denoiser.load(tiny_model), config)
    alone = [extract(extractor, folder, [i]) for i in range(7)]
    backwards = extract(extractor, folder, list(range(7))[::-1])
    for i in range(7):
        whole, one = backwards.gradients[6 - i], alone[i].gradients[0]
        assert (whole - one).norm() < 1e-4 * one.norm()
        assert torch.allclose(backwards.residuals[6 - i], alone[i].residuals[0], rtol=1e-5)


def test_unconditional_grey_model_reads_colour_pictures(tiny_ddpm: Path, tiny_folder: Path) -> None:
    folder = ImageSet(tiny_folder)
    extractor = GradientFeatures(Denoiser.load(tiny_ddpm), IndexConfig(timesteps=2))
    features = extract(extractor, folder, [0, 1])
    assert features.gradients.shape == (2, 1, 4, extractor.projector.size)
    assert torch.isfinite(features.gradients).all()


@pytest.mark.parametrize("normalisation", ["none", "timestep", "elementwise"])
def test_normalisations_against_their_formulas(
    normalisation: Normalisation, rng: np.random.Generator
) -> None:
    g = rng.normal(size=(5, 2, 3, 4))
    mean = RunningMean(normalisation)
    for g_t in g:
        mean.add(torch.from_numpy(g_t))
    divisor = {
        "none": 1.0,
        "timestep": np.linalg.norm(g, axis=-1, keepdims=True),
        "elementwise": np.sqrt((g**2).sum(axis=0)),
    }[normalisation]
    np.testing.assert_allclose(mean.result().numpy(), (g / divisor).mean(axis=0), rtol=1e-5)


@pytest.mark.parametrize("normalisation", ["none", "timestep", "elementwise"])
def test_timesteps_are_averaged_from_those_kept_apart(
    tiny_ddpm: Path, tiny_folder: Path, normalisation: Normalisation
) -> None:
    """Also r̄: the mean of each timestep's length over the root of their sum of squares."""
    folder, denoiser = ImageSet(tiny_folder), Denoiser.load(tiny_ddpm)
    knobs = {"timesteps": 3, "projection_dim": 300, "draws": 2}
    apart = IndexConfig(average_timesteps=False, **knobs)
    kept = extract(GradientFeatures(denoiser, apart), folder, [0, 1])
    averaged = IndexConfig(normalisation=normalisation, **knobs)
    found = extract(GradientFeatures(denoiser, averaged), folder, [0, 1])
    mean = RunningMean(normalisation)
    for group in range(3):
        mean.add(kept.gradients[:, group])
    torch.testing.assert_close(found.gradients[:, 0], mean.result(), rtol=1e-4, atol=1e-5)
    r = kept.residuals
    expected = (r / (r**2).sum(dim=1, keepdim=True).sqrt()).mean(dim=1, keepdim=True)
    torch.testing.assert_close(found.residuals, expected)
    inside = kept.probed_residuals.mean(dim=1, keepdim=True)
    torch.testing.assert_close(found.probed_residuals, inside)


def test_noise_and_caption_make_the_features(tiny_model: Path, tiny_folder: Path) -> None:
    """The key seeds an image's own noise, whatever it is called; the caption is the condition."""
    folder, denoiser = ImageSet(tiny_folder), Denoiser.load(tiny_model)
    image = folder.image(0)

    def gradient(noise: Noise, key: str, caption: str | None, name: str) -> torch.Tensor:
        config = IndexConfig(timesteps=2, projection_dim=300, noise=noise)
        batch = Batch([key], [image], [caption], [None], [name])
        return GradientFeatures(denoiser, config).extract(batch).gradients[0]

    own = gradient("per-image", "a", "disc, ada", "first")
    assert torch.equal(gradient("per-image", "a", "disc, ada", "second"), own)
    shared = gradient("shared", "a", "disc, ada", "first")
    assert torch.equal(gradient("shared", "b", "disc, ada", "second"), shared)
    for plain, other in (
        (own, gradient("per-image", "b", "disc, ada", "first")),
        (own, gradient("per-image", "a", None, "first")),
        (own, shared),
        (shared, gradient("shared", "a", None, "first")),
    ):
        assert (other - plain).norm() > 1e-3 * plain.norm()


def test_progress_runs_to_the_end(trained_ddpm: Path, tiny_folder: Path) -> None:
    folder = ImageSet(tiny_folder)
    config = IndexConfig(output="loss", timesteps=4, projection_dim=300, checkpoints=2)
    told: list[float] = []
    GradientFeatures(Denoiser.load(trained_ddpm), config).extract(
        batch_of(folder, list(range(10))), told.append
    )
    assert told == [0.125 * step for step in range(1, 9)]


def test_pixels_are_what_the_model_sees(tiny_ddpm: Path, tiny_folder: Path) -> None:
    folder, denoiser = ImageSet(tiny_folder), Denoiser.load(tiny_ddpm)
    extractor = feature_extractor(IndexConfig(output="pixels"), denoiser, None)
    found = extractor.extract(batch_of(folder, [0, 7])).gradients
    assert found.shape == (2, *extractor.shape)
    for row, i in enumerate([0, 7]):
        grey = folder.image(i).convert("L").resize((8, 8), Image.Resampling.LANCZOS)
        expected = np.asarray(grey, dtype=np.float32).ravel() / 127.5 - 1
        np.testing.assert_allclose(found[row, 0, 0], expected, atol=1e-6)


def test_embeddings_keep_their_lengths(tiny_clip: Path, tiny_folder: Path) -> None:
    """``clip`` is their inner product; only ``clip-cosine`` divides by lengths."""
    folder, clip = ImageSet(tiny_folder), ClipEmbedder(str(tiny_clip))
    extractor = feature_extractor(IndexConfig(output="clip"), None, clip)
    found = extractor.extract(batch_of(folder, [0, 7])).gradients
    assert found.shape == (2, *extractor.shape)
    unit = clip.embed_images([folder.image(0), folder.image(7)])
    lengths = found[:, 0, 0].norm(dim=1, keepdim=True)
    assert ((lengths - 1).abs() > 0.1).all()
    torch.testing.assert_close(found[:, 0, 0], lengths * torch.from_numpy(unit))


def test_an_extractor_asks_for_its_model(tiny_clip: Path) -> None:
    with pytest.raises(ConfigError, match="output clip needs a CLIP model"):
        feature_extractor(IndexConfig(output="clip"), None, None)
    with pytest.raises(ConfigError, match="output loss needs a diffusion model"):
        feature_extractor(IndexConfig(output="loss"), None, ClipEmbedder(str(tiny_clip)))


def tensors(extractor: GradientFeatures, folder: ImageSet, rows: list[int]) -> torch.Tensor:
    return torch.stack([extractor.denoiser.encode(folder.image(i)) for i in rows])


def test_draws_are_averaged_at_their_timestep(tiny_model: Path, tiny_folder: Path) -> None:
    folder = ImageSet(tiny_folder)
    config = IndexConfig(timesteps=2, projection_dim=300, draws=3, average_timesteps=False)
    extractor = GradientFeatures(Denoiser.load(tiny_model), config)
    batch, x_0 = batch_of(folder, [0, 5]), tensors(extractor, folder, [0, 5])
    found = extractor.extract(batch)
    condition = extractor.denoiser.condition(batch.captions)
    assert found.gradients.shape[:3] == (2, 2, 4)
    for group, t in enumerate(extractor.timesteps):
        each = extractor.at_once(batch.keys, [(t, d, x_0) for d in range(3)], condition)
        assert torch.pdist(each[0].flatten(1)).min() > 0.1 * each[0].std()  # of different noise
        g, r, probed = (part.mean(dim=0) for part in each)
        torch.testing.assert_close(found.gradients[:, group], g, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.residuals[:, group], r, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.probed_residuals[:, group], probed, rtol=1e-4, atol=1e-4)


def test_checkpoints_are_groups_and_leave_no_trace(trained_ddpm: Path, tiny_folder: Path) -> None:
    folder = ImageSet(tiny_folder)
    denoiser = Denoiser.load(trained_ddpm)
    before = {name: p.clone() for name, p in denoiser.network.state_dict().items()}
    config = IndexConfig(output="loss", timesteps=2, projection_dim=300, checkpoints=3)
    found = extract(GradientFeatures(denoiser, config), folder, [0, 1]).gradients
    assert [path and path.name for path in denoiser.chosen_checkpoints(3)] == [
        "checkpoint-10",
        "checkpoint-100",
        None,
    ]
    single = IndexConfig(output="loss", timesteps=2, projection_dim=300)
    finished = extract(GradientFeatures(denoiser, single), folder, [0, 1]).gradients
    torch.testing.assert_close(found[:, 2:], finished)
    assert (found[:, 0] - found[:, 1]).abs().max() > 0
    with denoiser.weights_of(denoiser.checkpoints[0]):
        early = extract(GradientFeatures(denoiser, single), folder, [0, 1]).gradients
    torch.testing.assert_close(early[:, 0], found[:, 0])
    both = IndexConfig(
        output="loss", timesteps=2, projection_dim=300, checkpoints=2, average_timesteps=False
    )
    groups = extract(GradientFeatures(denoiser, both), folder, [0, 1]).gradients
    assert groups.shape[1] == 4  # the timesteps of one checkpoint, then those of the next
    torch.testing.assert_close(groups[:, 2:].mean(dim=1, keepdim=True), finished)

    def interrupt(fraction: float) -> None:
        assert not torch.equal(denoiser.network.state_dict()["conv_in.weight"], before_first)
        raise KeyboardInterrupt

    before_first = before["conv_in.weight"]
    with pytest.raises(KeyboardInterrupt):
        GradientFeatures(denoiser, config).extract(batch_of(folder, [0]), interrupt)
    for name, p in denoiser.network.state_dict().items():
        assert torch.equal(p, before[name])
    with pytest.raises(ValueError, match="checkpoint-<step>/unet"):
        GradientFeatures(denoiser, IndexConfig(output="loss", timesteps=2, checkpoints=5))


def test_gradients_that_are_not_finite_name_their_image(tiny_ddpm: Path, tiny_folder: Path) -> None:
    """The one among several, by the name that the user knows."""
    folder, denoiser = ImageSet(tiny_folder), Denoiser.load(tiny_ddpm)
    extractor = GradientFeatures(denoiser, IndexConfig(timesteps=1, projection_dim=300))
    batch = replace(batch_of(folder, [0, 1, 2]), names=["first", "second", "third"])
    x_0 = tensors(extractor, folder, [0, 1, 2])
    x_0[1, 0, 0, 0] = torch.nan
    with pytest.raises(FeatureError, match="gradients of second are NaN or infinite"):
        extractor.along(batch, [(10, x_0)])
    with torch.no_grad():
        denoiser.pipeline.unet.conv_out.weight.fill_(torch.inf)
    with pytest.raises(FeatureError, match=r"ada/cross\.png"):
        extract(extractor, folder, [0, 1])


def test_journey_follows_the_drawing(tiny_model: Path) -> None:
    """Features are the mean over the steps of gradients at x̂_0, noised at the step's timestep."""
    denoiser = Denoiser.load(tiny_model)
    config = IndexConfig(output="loss", projection_dim=300)
    gradients = GradientFeatures(denoiser, config)
    drawing = Drawing(seed=4, steps=3, guidance_scale=1.5)
    path: list[tuple[int, torch.Tensor]] = []
    image = denoiser.generate(
        "disc, ada", drawing, on_step=lambda _, s: path.append((s.timestep, s.predicted_x_0))
    )
    assert [t for t, _ in path] == sorted((t for t, _ in path), reverse=True)
    batch = Batch(["query"], [image], ["disc, ada"], [4])
    found = JourneyFeatures(gradients, drawing).extract(batch).gradients
    by_hand = [
        gradients.at_once(["query"], [(t, 0, x)], denoiser.condition(["disc, ada"]))[0][0]
        for t, x in path
    ]
    expected = torch.stack(by_hand).mean(dim=0)[:, None]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    other = denoiser.generate("ring, bob", replace(drawing, seed=5))
    pair = Batch(["other", "query"], [other, image], ["ring, bob", "disc, ada"], [5, 4])
    beside = JourneyFeatures(gradients, drawing).extract(pair).gradients[1:]
    assert (beside - found).norm() < 1e-4 * found.norm()

    with pytest.raises(FeatureError, match="query has no seed"):
        JourneyFeatures(gradients).extract(Batch(["query"], [image], [None], [None]))
    white = Image.new("RGB", image.size, "white")
    with pytest.raises(FeatureError, match="not what the model draws from seed 4 in 3 steps"):
        JourneyFeatures(gradients, drawing).extract(Batch(["q"], [white], ["disc, ada"], [4]))
