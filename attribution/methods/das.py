"""The Diffusion Attribution Score (ICLR 2025): one family.

Its members share the effect of sample i on region q of the generated picture,

    effect[i, q] = φ_q(gen)ᵀ H⁻¹ φ_q(i) / (1 - h_{i,q}),

which an index stores so that one inner product gives it (Eq. 15, with m outputs kept instead of
the paper's one).  They differ in how the m effects become one score.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Das:
    """Eq. 18 per region, summed: Σ_q (effect[i, q] · r̄_i)².  Orders by size of the influence."""

    name = "das"
    section = "3.3, Eq. 18"
    outputs: tuple[str, ...] = ("regions", "dct")

    def score(self, effects: Array, residuals: Array) -> Array:
        """Scores ``(n,)`` ≥ 0 of effects ``(n, m)`` and mean residuals r̄ ``(n,)``."""
        return np.asarray(region_scores(effects, residuals).sum(axis=1))


class DasMean(Das):
    """The score that the paper's code means to compute: m = 1, the mean of the output."""

    name = "das-mean"
    section = "3.3, Eq. 18 with f = mean(ε_θ)"
    outputs = ("mean",)


class DasSigned:
    """Σ_q effect[i, q]: one inner product of m·k numbers, positive for proponents."""

    name = "das-signed"
    section = "3.2, Eq. 15"
    outputs = ("regions", "dct", "mean")

    def score(self, effects: Array, residuals: Array) -> Array:
        """Signed scores ``(n,)``; the residuals do not enter."""
        return np.asarray(effects.sum(axis=1))


def region_scores(effects: Array, residuals: Array) -> Array:
    """The terms of ``das``: what each region contributes, ``(n, m)``."""
    return np.asarray((effects * residuals[:, None]) ** 2)


def das_t(J_gen: Array, J: Array, r: Array, damping: float) -> Array:
    """Eq. 16 with the whole Jacobian at one timestep, nothing averaged or projected: ``(n,)``.

    ``J_gen`` ``(p, D)``, ``J`` ``(n, p, D)``, residuals ``r`` ``(n, D)``; λ is ``damping`` as it
    stands.  For a linear model it is exact leave-one-out retraining of ridge regression.
    """
    p, D = J_gen.shape
    H = np.einsum("ipd,iqd->pq", J, J) + damping * np.eye(p)
    preconditioned = np.linalg.solve(H, J.transpose(1, 0, 2).reshape(p, -1))
    H_inv_J = preconditioned.reshape(p, len(J), D).transpose(1, 0, 2)
    hat = np.einsum("ipd,ipe->ide", J, H_inv_J)
    corrected = np.linalg.solve(np.eye(D) - hat, r[:, :, None])
    change = np.einsum("pd,ipe,ie->id", J_gen, H_inv_J, corrected[:, :, 0])
    return np.asarray((change**2).sum(axis=1))
