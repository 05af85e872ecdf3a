"""Reference test 5: a sample's features are its own, whatever it is computed with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attribution.denoisers import Denoiser
from attribution.features import FeatureExtractor, Features, RunningMean
from attribution.image_folder import ImageFolder
from attribution.index.config import IndexConfig, Normalisation
from attribution.noise import noise_seed, sample_noise, select_timesteps


def extract(extractor: FeatureExtractor, folder: ImageFolder, rows: list[int]) -> Features:
    return extractor.extract(
        [folder.samples[i].key for i in rows],
        torch.stack([extractor.denoiser.encode(folder.image(i)) for i in rows]),
        extractor.denoiser.condition([folder.samples[i].text for i in rows]),
    )


@pytest.mark.parametrize("config", [
    IndexConfig(timesteps=2, projection_dim=300),
    IndexConfig(timesteps=2, projection_dim=300, output="square", normalisation="timestep"),
    IndexConfig(timesteps=2, projection_dim=300, output="dct", normalisation="elementwise"),
])  # fmt: skip
def test_batch_size_and_order_change_nothing(
    tiny_model: Path, tiny_folder: Path, config: IndexConfig
) -> None:
    folder = ImageFolder(tiny_folder)
    extractor = FeatureExtractor(Denoiser.load(tiny_model), config)
    alone = [extract(extractor, folder, [i]) for i in range(7)]
    backwards = extract(extractor, folder, list(range(7))[::-1])
    for i in range(7):
        difference = backwards.gradients[6 - i] - alone[i].gradients[0]
        assert np.linalg.norm(difference) < 1e-4 * np.linalg.norm(alone[i].gradients)
        assert backwards.residuals[6 - i] == pytest.approx(float(alone[i].residuals[0]), rel=1e-5)


def test_unconditional_grey_model_reads_colour_pictures(tiny_ddpm: Path, tiny_folder: Path) -> None:
    folder = ImageFolder(tiny_folder)
    extractor = FeatureExtractor(Denoiser.load(tiny_ddpm), IndexConfig(timesteps=2))
    features = extract(extractor, folder, [0, 1])
    assert features.gradients.shape == (2, 4, extractor.projector.size)
    assert np.isfinite(features.gradients).all()


@pytest.mark.parametrize("normalisation", ["none", "timestep", "elementwise"])
def test_normalisations_against_their_formulas(
    normalisation: Normalisation, rng: np.random.Generator
) -> None:
    g = rng.normal(size=(5, 2, 3, 4))
    mean = RunningMean(g.shape[1:], normalisation)
    for g_t in g:
        mean.add(torch.from_numpy(g_t))
    divisor = {
        "none": 1.0,
        "timestep": np.linalg.norm(g, axis=-1, keepdims=True),
        "elementwise": np.sqrt((g**2).sum(axis=0)),
    }[normalisation]
    np.testing.assert_allclose(mean.result().numpy(), (g / divisor).mean(axis=0), rtol=1e-5)


def test_noise_belongs_to_key_timestep_draw_and_seed() -> None:
    base = sample_noise(["a", "b"], 10, (3, 4), seed=0)
    assert torch.equal(sample_noise(["b"], 10, (3, 4), seed=0)[0], base[1])
    others = [noise_seed("a", 10, 0, 0), noise_seed("a", 11, 0, 0), noise_seed("a", 10, 1, 0),
              noise_seed("a", 10, 0, 1), noise_seed("b", 10, 0, 0)]  # fmt: skip
    assert len(set(others)) == len(others)


@given(st.integers(1, 1000))
def test_uniform_timesteps_are_distinct_and_spread(count: int) -> None:
    steps = select_timesteps(count, "uniform")
    assert len(set(steps)) == count
    assert steps == sorted(steps)
    assert steps[0] == 0
    assert steps[-1] < 1000
    assert select_timesteps(count, "cumulative") == list(range(count))
