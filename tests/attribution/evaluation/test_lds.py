"""The LDS against scipy, against known answers, and its yardsticks against simulated retraining."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from attribution.errors import InputError
from attribution.evaluation.lds import lds, predictions, spearman, yardsticks
from attribution.evaluation.subsets import draw_subsets


def subsets(count: int, images: int = 60) -> np.ndarray:
    return draw_subsets(["x"] * images, count, 0.5, 0)


def test_the_effects_that_made_the_losses_score_one(rng: np.random.Generator) -> None:
    members, effects = subsets(20), rng.standard_normal((7, 60))
    losses = -(members @ effects.T)[:, None, :]  # more influence, less loss
    assert lds(effects, members, losses).value == pytest.approx(1.0)
    assert lds(-effects, members, losses).value == pytest.approx(-1.0)


@given(st.integers(0, 1000))
def test_equals_scipy_query_by_query(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(-2, 3, (4, 60)).astype(float)  # with ties
    members, losses = subsets(12), rng.standard_normal((12, 3, 4))
    expected = [
        spearmanr(-(members @ scores[q]), losses.mean(axis=1)[:, q]).statistic for q in range(4)
    ]
    assert lds(scores, members, losses, resamples=2).value == pytest.approx(np.mean(expected))


def test_a_query_that_nothing_foretells_counts_as_zero(rng: np.random.Generator) -> None:
    assert spearman(np.ones((1, 8)), rng.standard_normal((1, 8))).tolist() == [0.0]


def test_scores_that_do_not_tell_images_apart_foretell_nothing(rng: np.random.Generator) -> None:
    members = subsets(16)
    losses = rng.standard_normal((16, 1, 5))
    assert predictions(np.ones((5, 60)), members).std() == 0
    assert lds(np.ones((5, 60)), members, losses).value == 0


def test_the_bootstrap_says_how_far_other_subsets_would_have_led(
    rng: np.random.Generator,
) -> None:
    effects = rng.standard_normal((20, 60))
    scores = effects + 1.5 * rng.standard_normal(effects.shape)
    values, errors = [], []
    for seed in range(30):
        members = draw_subsets(["x"] * 60, 32, 0.5, seed)
        estimate = lds(scores, members, -(members @ effects.T)[:, None, :], resamples=50)
        values.append(estimate.value)
        errors.append(estimate.error)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.5)


def test_ratios_are_resampled_pair_by_pair(rng: np.random.Generator) -> None:
    effects = rng.standard_normal((20, 60))
    members = subsets(32)
    losses = -(members @ effects.T)[:, None, :]
    weak = lds(effects + 2 * rng.standard_normal(effects.shape), members, losses)
    assert weak.over(weak).error == 0
    low, high = lds(effects, members, losses).over(weak).interval()
    assert 1 < low < high


def test_the_limit_is_what_a_perfect_predictor_reaches(rng: np.random.Generator) -> None:
    members, effects = subsets(400), rng.standard_normal((40, 60))
    signal = -(members @ effects.T)
    noisy = signal[:, None, :] + 6 * rng.standard_normal((400, 3, 40))
    known = yardsticks(noisy)
    assert known is not None
    assert 0.1 < known.rho < 0.6
    reached = lds(effects, members, noisy, resamples=2).value
    assert reached == pytest.approx(known.limit, abs=0.04)


def test_one_training_seed_has_no_yardsticks(rng: np.random.Generator) -> None:
    assert yardsticks(rng.standard_normal((8, 1, 2))) is None


def test_two_subsets_are_too_few() -> None:
    with pytest.raises(InputError, match="three subsets"):
        lds(np.ones((1, 4)), np.ones((2, 4), dtype=bool), np.ones((2, 1, 1)))
