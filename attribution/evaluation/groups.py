"""Leaving whole groups out: does a group's part of an answer foretell what is lost without it?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attribution.errors import InputError
from attribution.evaluation.ground_truth import GroundTruth
from attribution.evaluation.lds import spearman

Array = NDArray[np.float64]


def lost_without(truth: GroundTruth, query_set: str) -> Array:
    """How much each query's loss rises when a group is left out: ``(S, Q, groups)``.

    The ground truth's first subset is everything, and every other one lacks one group
    (``headwater evaluate retrain --leave-out``).  Seeds that are not complete do not count.
    """
    if truth.protocol["design"]["kind"] != "leave-out":
        raise InputError("the ground truth is of random subsets, not of groups left out")
    whole = truth.measured.all(axis=0)
    if not whole.any():
        raise InputError("no training seed is complete: go on with the command that made it")
    losses = truth.losses[:, whole][:, :, truth.queries_of(query_set)].astype(np.float64)
    return np.asarray((losses[1:] - losses[0]).transpose(1, 2, 0))


def group_shares(
    scores: NDArray[np.floating], labels: Sequence[str], groups: Sequence[str]
) -> Array:
    """Each group's part of the influence on each query, ``(Q, groups)``; opponents have none."""
    positive = np.maximum(scores, 0.0).astype(np.float64)
    names = np.asarray(labels)
    sums = np.stack([positive[:, names == group].sum(axis=1) for group in groups], axis=1)
    return np.asarray(sums / np.maximum(positive.sum(axis=1, keepdims=True), 1e-300))


@dataclass(frozen=True)
class Agreement:
    """Shares against losses.

    ``same_first``: of how many queries the group with the largest share is the one that is missed
    most.  ``over_queries``: the Spearman over queries of a group's share with what is lost without
    it, both less the mean of all groups, averaged over groups.
    """

    same_first: float
    over_queries: float


def agreement(shares: Array, lost: Array) -> Agreement:
    """Of shares and losses ``(Q, groups)``."""
    same = shares.argmax(axis=1) == lost.argmax(axis=1)
    over_mean = [values - values.mean(axis=1, keepdims=True) for values in (shares, lost)]
    return Agreement(float(same.mean()), float(spearman(over_mean[0].T, over_mean[1].T).mean()))
