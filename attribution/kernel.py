"""The kernel H = Σ_q Σ_i φ_q(i) φ_q(i)ᵀ + λI: one factorisation for every λ and every leverage.

The symmetric eigendecomposition is that of the smaller Gram matrix: ``(k, k)`` (primal) where
k ≤ N, ``(N, N)`` (dual) where N < k, N = m·n rows.  Everything here is float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Blocks = Callable[[], Iterable[NDArray[np.floating]]]


@dataclass(frozen=True)
class Kernel:
    """Eigenpairs of Φᵀ Φ for Φ ``(N, k)``.

    ``vectors`` ``(k, r)`` are orthonormal directions in feature space, ``values`` ``(r,)`` their
    eigenvalues, descending and positive.  Off their span Φᵀ Φ is zero.
    """

    vectors: Matrix
    values: Matrix
    dimension: int

    @classmethod
    def of_rows(cls, blocks: Blocks, rows: int, dimension: int) -> Kernel:
        """Factorise Φ, given as a function that streams its rows in blocks of ``(b, k)``.

        Primal reads the rows once and holds one ``(k, k)`` matrix; dual holds Φ itself, which is
        then the smaller thing.
        """
        if dimension <= rows:
            gram = np.zeros((dimension, dimension))
            for block in blocks():
                wide = block.astype(np.float64)
                gram += wide.T @ wide
            values, vectors = np.linalg.eigh(gram)
            kept = _significant(values)
            return cls(vectors[:, kept][:, ::-1], values[kept][::-1], dimension)
        phi = np.concatenate([block.astype(np.float64) for block in blocks()])
        values, left = np.linalg.eigh(phi @ phi.T)
        kept = _significant(values)
        values, left = values[kept][::-1], left[:, kept][:, ::-1]
        return cls(phi.T @ (left / np.sqrt(values)), values, dimension)

    def absolute(self, damping: float) -> float:
        """λ for a ``damping`` stated relative to the mean eigenvalue, trace / k."""
        return damping * float(self.values.sum()) / self.dimension

    def precondition(self, rows: NDArray[np.floating], damping: float) -> Matrix:
        """H⁻¹ applied to each row: ``(b, k)``."""
        lam = self.absolute(damping)
        wide = rows.astype(np.float64)
        inside = wide @ self.vectors
        # H⁻¹ = I/λ off the span; on it 1/(σ+λ).  Written as one correction of I/λ.
        return (wide - (inside * (self.values / (self.values + lam))) @ self.vectors.T) / lam

    def leverages(self, rows: NDArray[np.floating], damping: float) -> Matrix:
        """h = φᵀ H⁻¹ φ of each row, in [0, 1) for rows of Φ: ``(b,)``."""
        inside = rows.astype(np.float64) @ self.vectors
        return np.asarray((inside**2 / (self.values + self.absolute(damping))).sum(axis=1))

    def degrees_of_freedom(self, damping: float) -> float:
        """Σ σ/(σ+λ), the effective number of directions that λ leaves; equals Σ h over Φ."""
        return float((self.values / (self.values + self.absolute(damping))).sum())


def _significant(values: Matrix) -> NDArray[np.bool_]:
    """Which ascending eigenvalues stand above rounding."""
    if not len(values) or values[-1] <= 0:
        raise ValueError("every feature is zero: the model's output depends on no selected layer")
    return np.asarray(values > values[-1] * len(values) * np.finfo(np.float64).eps)
