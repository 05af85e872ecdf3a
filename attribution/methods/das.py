"""The Diffusion Attribution Score (ICLR 2025): one family.

Its members share the effect of sample i on region q of the generated picture,

    effect[i, q] = φ_q(gen)ᵀ H⁻¹ φ_q(i) / (1 - h_{i,q}),

(Eq. 15, with m outputs kept instead of the paper's one), and differ in how the m effects become one
score.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attribution.methods.method import InnerProduct, TrainingRows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from attribution.methods.method import Array


class Das(InnerProduct):
    """Eq. 18 per region, summed: Σ_q (effect[i, q] · r̄_i)².  Orders by size of the influence."""

    name = "das"
    section = "3.3, Eq. 18"
    outputs: tuple[str, ...] = ("regions", "dct")
    signed = False
    uses_kernel = True

    def effects(self, products: Array, rows: TrainingRows, query_lengths: Array) -> Array:
        """Leave-one-out corrected products."""
        corrected: Array = products / (1 - rows.leverages)
        return corrected

    def parts(self, effects: Array, rows: TrainingRows) -> Array:
        """The squared terms ≥ 0 of each region."""
        return region_scores(effects, rows.residuals)


class DasMean(Das):
    """The score that the paper's code means to compute: m = 1, the mean of the output."""

    name = "das-mean"
    section = "3.3, Eq. 18 with f = mean(ε_θ)"
    outputs = ("mean",)


class DasSigned(Das):
    """Σ_q effect[i, q]: one inner product of m·k numbers, positive for proponents."""

    name = "das-signed"
    section = "3.2, Eq. 15"
    outputs = ("regions", "dct", "mean")
    signed = True

    def parts(self, effects: Array, rows: TrainingRows) -> Array:
        """The signed effects; the residuals do not enter."""
        mean: Array = effects.mean(axis=2)
        return mean


class DasFrobenius(Das):
    """All pairs of regions: Σ_qq' (φ_q(gen)ᵀ H⁻¹ φ_q'(i) / (1 - h_{i,q'}) · r̄_i)²."""

    name = "das-frobenius"
    section = "3.3, Eq. 18, Frobenius norm"
    all_pairs = True

    def effects(self, products: Array, rows: TrainingRows, query_lengths: Array) -> Array:
        """The length of what all outputs of sample i do to region q ≥ 0: ``(Q, b, G, m)``."""
        corrected: Array = products / (1 - rows.leverages)[..., None, :]
        lengths: Array = (corrected**2).sum(axis=-1) ** 0.5
        return lengths


class DasT(Das):
    """Eq. 16 at each timestep with a kernel of its own, then averaged: the reference."""

    name = "das-t"
    section = "3.2, Eq. 16"
    outputs = ("regions", "dct", "mean")
    all_pairs = True
    needs = frozenset({"timesteps apart"})

    def effects(self, products: Array, rows: TrainingRows, query_lengths: Array) -> Array:
        """How leaving sample i out moves region q: J_genᵀ H⁻¹ J_i (I - hat_i)⁻¹ r_i."""
        assert rows.hats is not None, "the table asks for timesteps kept apart"
        corrected = _solve(rows.hats, rows.probed_residuals)
        change: Array = (products @ corrected[..., None])[..., 0]
        return change

    def parts(self, effects: Array, rows: TrainingRows) -> Array:
        """Each region's squared change, averaged over timesteps."""
        mean: Array = (effects**2).mean(axis=2)
        return mean


def region_scores(effects: Array, residuals: Array) -> Array:
    """The terms of ``das``: what each region contributes, ``(Q, b, m)``.

    ``effects`` ``(Q, b, G, m)``, ``residuals`` ``(b, G)``.
    """
    terms: Array = ((effects * residuals[..., None]) ** 2).mean(axis=2)
    return terms


def das_t(J_gen: Array, J: Array, r: Array, damping: float) -> NDArray[np.float64]:
    """Eq. 16 with the whole Jacobian at one timestep, nothing averaged or projected: ``(n,)``.

    ``J_gen`` ``(p, D)``, ``J`` ``(n, p, D)``, residuals ``r`` ``(n, D)``; λ is ``damping`` as it
    stands.  For a linear model it is exact leave-one-out retraining of ridge regression.
    """
    import numpy as np

    p, D = J_gen.shape
    H = np.einsum("ipd,iqd->pq", J, J) + damping * np.eye(p)
    preconditioned = np.linalg.solve(H, J.transpose(1, 0, 2).reshape(p, -1))
    H_inv_J = preconditioned.reshape(p, len(J), D).transpose(1, 0, 2)
    hat = np.einsum("ipd,ipe->ide", J, H_inv_J)
    change = np.einsum("pd,ipe,ie->id", J_gen, H_inv_J, _solve(hat, r))
    return np.asarray((change**2).sum(axis=1))


def _solve(hat: Array, r: Array) -> Array:
    """(I - hat)⁻¹ r for ``(…, m, m)`` and ``(…, m)``: the leave-one-out residual."""
    import numpy as np

    return np.asarray(np.linalg.solve(np.eye(hat.shape[-1]) - hat, r[..., None])[..., 0])
