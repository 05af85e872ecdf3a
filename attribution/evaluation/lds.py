"""The linear datamodelling score: do summed scores foretell what retraining does?

Eq. 19: g(q, S) = Σ_{i∈S} τ_i is the method's prediction for a model trained on S alone; Eq. 20:
LDS = Spearman over the subsets of -g and the measured simple loss f, averaged over queries.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from attribution.errors import InputError

Array = NDArray[np.float64]

RESAMPLES = 500


@dataclass(frozen=True)
class Estimate:
    """A mean over queries, with its bootstrap over subsets: ``resampled`` ``(R,)``.

    Estimates of one ground truth are resampled alike, so that they can be compared pair by pair.
    """

    value: float
    resampled: Array

    @property
    def error(self) -> float:
        """The bootstrap's standard deviation."""
        return float(self.resampled.std(ddof=1))

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The bootstrap's central interval."""
        low, high = np.quantile(self.resampled, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

    def over(self, other: Estimate) -> Estimate:
        """This as a multiple of another: the ratio, resampled pair by pair."""
        return Estimate(self.value / other.value, self.resampled / other.resampled)


@dataclass(frozen=True)
class Yardsticks:
    """What can be reached on this ground truth.

    ``rho``: how well one retraining's outputs foretell another's of the same subsets, the mean
    Spearman over pairs of training seeds and queries.  ``limit``: the LDS of a perfect predictor
    on the mean of S seeds, √(Sρ / (1 + (S-1)ρ)) (Spearman-Brown, and the square root of that
    reliability).
    """

    rho: float
    limit: float


def predictions(scores: NDArray[np.floating], members: NDArray[np.bool_]) -> Array:
    """-g ``(Q, M)`` of scores ``(Q, n)`` and subsets ``(M, n)``: more influence, less loss."""
    return np.asarray(-(scores.astype(np.float64) @ members.T.astype(np.float64)))


def spearman(a: Array, b: Array) -> Array:
    """Rank correlation of the rows of two ``(Q, M)``; 0 where a row is constant."""
    return _correlation(rankdata(a, axis=1), rankdata(b, axis=1))


def lds(
    scores: NDArray[np.floating],
    members: NDArray[np.bool_],
    losses: NDArray[np.floating],
    *,
    resamples: int = RESAMPLES,
) -> Estimate:
    """LDS of scores ``(Q, n)`` against losses ``(M, S, Q)``, seeds averaged (Eq. 20)."""
    if len(members) < 3:
        raise InputError(f"an LDS needs three subsets at least, and there are {len(members)}")
    target = losses.mean(axis=1, dtype=np.float64).T
    return resampled_mean(predictions(scores, members), target, resamples)


def resampled_mean(a: Array, b: Array, resamples: int) -> Estimate:
    """The mean over queries of the Spearman of ``(Q, M)`` rows, resampled over the M subsets."""
    rng = np.random.default_rng(0)
    M = a.shape[1]
    values = np.empty(resamples)
    for r in range(resamples):
        drawn = np.sort(rng.integers(0, M, M))
        values[r] = spearman(a[:, drawn], b[:, drawn]).mean()
    return Estimate(float(spearman(a, b).mean()), values)


def yardsticks(losses: NDArray[np.floating]) -> Yardsticks | None:
    """ρ and the limit of losses ``(M, S, Q)``; one seed has none."""
    M, S, _ = losses.shape
    if S < 2 or M < 3:
        return None
    of_seed = [losses[:, s].T.astype(np.float64) for s in range(S)]
    rho = float(np.mean([spearman(a, b).mean() for a, b in combinations(of_seed, 2)]))
    return Yardsticks(rho, math.sqrt(max(0.0, S * rho / (1 + (S - 1) * rho))))


def _correlation(a: Array, b: Array) -> Array:
    a = a - a.mean(axis=1, keepdims=True)
    b = b - b.mean(axis=1, keepdims=True)
    scale = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return np.asarray((a * b).sum(axis=1) / np.where(scale > 0, scale, np.inf))
