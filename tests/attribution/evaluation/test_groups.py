"""Leaving groups out: what is lost without each, and whether shares foretold it."""

import numpy as np
import pytest

from attribution.errors import InputError
from attribution.evaluation.ground_truth import GroundTruth
from attribution.evaluation.groups import agreement, group_shares, lost_without


def truth(losses: np.ndarray, kind: str = "leave-out") -> GroundTruth:
    members = np.array([[1, 1, 1], [0, 0, 1], [1, 1, 0]], dtype=bool)
    return GroundTruth(
        ["a/1", "a/2", "b/1"], ["v/x", "v/y"], members, [0], losses, {"design": {"kind": kind}}
    )


def test_what_is_lost_is_the_rise_over_the_model_of_everything() -> None:
    losses = np.array([[[1.0, 2.0]], [[1.5, 2.0]], [[1.0, 3.0]]], dtype=np.float32)
    np.testing.assert_allclose(lost_without(truth(losses), "v"), [[[0.5, 0.0], [0.0, 1.0]]])


def test_other_ground_truths_are_refused() -> None:
    losses = np.zeros((3, 1, 2), dtype=np.float32)
    with pytest.raises(InputError, match="random subsets"):
        lost_without(truth(losses, "random"), "v")
    losses[2] = np.nan
    with pytest.raises(InputError, match="no training seed is complete"):
        lost_without(truth(losses), "v")


def test_shares_are_of_proponents_alone_and_sum_to_one() -> None:
    scores = np.array([[1.0, 2.0, 1.0], [0.0, -5.0, 3.0]])
    shares = group_shares(scores, ["a", "a", "b"], ["a", "b"])
    np.testing.assert_allclose(shares, [[0.75, 0.25], [0.0, 1.0]])


def test_shares_that_foretell_agree_and_reversed_ones_do_not(rng: np.random.Generator) -> None:
    lost = rng.random((40, 3))
    shares = lost / lost.sum(axis=1, keepdims=True)
    right = agreement(shares, lost)
    wrong = agreement(1 - shares, lost)
    assert right.same_first == 1.0
    assert right.over_queries > 0.8
    assert wrong.same_first == 0.0
    assert wrong.over_queries < -0.8
