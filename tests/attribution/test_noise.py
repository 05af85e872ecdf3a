"""Noise belongs to a sample; timesteps are spread."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attribution.index.config import ConfigError
from attribution.noise import LOW_NOISE, noise_seed, sample_noise, select_timesteps


def test_noise_belongs_to_key_timestep_draw_and_seed() -> None:
    base = sample_noise(["a", "b"], 10, (3, 4), seed=0)
    assert torch.equal(sample_noise(["b"], 10, (3, 4), seed=0)[0], base[1])
    others = [noise_seed("a", 10, 0, 0), noise_seed("a", 11, 0, 0), noise_seed("a", 10, 1, 0),
              noise_seed("a", 10, 0, 1), noise_seed("b", 10, 0, 0)]  # fmt: skip
    assert len(set(others)) == len(others)


def test_noise_is_the_same_on_every_machine() -> None:
    """An index outlives the program that built it: these numbers may never change."""
    assert noise_seed("ada/disc.png", 100, 0, 0) == 4_993_558_757_438_099_103
    noise = sample_noise(["ada/disc.png"], 100, (3,), seed=0)[0]
    expected = torch.tensor([-0.0774032, 0.3998571, -0.0449622])
    torch.testing.assert_close(noise, expected, rtol=0, atol=1e-6)


def test_noise_is_standard_normal() -> None:
    noise = sample_noise([str(i) for i in range(200)], 0, (100,), seed=0)
    assert abs(float(noise.mean())) < 4 / 20_000**0.5
    assert abs(float(noise.var()) - 1) < 4 * (2 / 20_000) ** 0.5
    between = torch.corrcoef(noise[:, :50].T).fill_diagonal_(0)
    assert float(between.abs().max()) < 5 / 200**0.5


# √(1-ᾱ_t) of the linear schedule of Ho et al. (2020).
LINEAR = [
    math.sqrt(1 - math.prod(1 - (1e-4 + i * (0.02 - 1e-4) / 999) for i in range(t + 1)))
    for t in range(1000)
]


def test_shared_noise_belongs_to_timestep_draw_and_seed() -> None:
    base = sample_noise(["a", "b"], 10, (3, 4), 0, noise="shared")
    assert torch.equal(base[0], base[1])
    assert torch.equal(base[0], sample_noise(["c"], 10, (3, 4), 0, noise="shared")[0])
    for other in (
        sample_noise(["a"], 11, (3, 4), 0, noise="shared"),
        sample_noise(["a"], 10, (3, 4), 1, noise="shared"),
        sample_noise(["a"], 10, (3, 4), 0, 1, noise="shared"),
    ):
        assert not torch.equal(base[:1], other)


@given(st.integers(1, 100))
def test_low_noise_timesteps_are_spread_over_low_noise_levels(count: int) -> None:
    steps = select_timesteps(count, "low-noise", LINEAR)
    assert len(steps) == count
    assert steps == sorted(set(steps))
    levels = [LINEAR[t] for t in steps]
    assert max(levels) <= LOW_NOISE
    wanted = [LOW_NOISE * (i + 0.5) / count for i in range(count)]
    assert max(abs(a - b) for a, b in zip(levels, wanted, strict=True)) < 0.02


def test_one_low_noise_timestep_is_in_the_middle() -> None:
    assert select_timesteps(1, "low-noise", LINEAR) == [75]


@given(st.integers(1, 1000), st.integers(1, 1000))
def test_uniform_timesteps_are_distinct_and_spread(count: int, more: int) -> None:
    """Each is the first of its own part of the schedule: the gaps differ by one at most."""
    length = min(1000, count + more)
    steps = select_timesteps(count, "uniform", LINEAR[:length])
    gaps = [b - a for a, b in zip(steps, [*steps[1:], length], strict=True)]
    assert (steps[0], len(steps)) == (0, count)
    assert min(gaps) > 0
    assert max(gaps) - min(gaps) <= 1
    assert select_timesteps(count, "cumulative", LINEAR[:length]) == list(range(count))


@pytest.mark.parametrize("count", [10, 100, 1000])
def test_uniform_timesteps_are_the_papers(count: int) -> None:
    assert select_timesteps(count, "uniform", LINEAR) == list(range(0, 1000, 1000 // count))


def test_more_timesteps_than_the_model_was_trained_on_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"timesteps must lie in 1\.\.50, not 51"):
        select_timesteps(51, "uniform", LINEAR[:50])
