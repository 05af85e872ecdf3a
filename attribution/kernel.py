"""The kernel H = Σ_q Σ_i φ_q(i) φ_q(i)ᵀ + λI: one factorisation for every λ and every leverage.

The symmetric eigendecomposition is that of the smaller Gram matrix: ``(k, k)`` (primal) where
k ≤ N, ``(N, N)`` (dual) where N < k, N = m·n rows.  Everything here is float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from attribution.errors import InputError

Blocks = Callable[[], Iterable[torch.Tensor]]

# λ leaves no more than this of the kernel's directions, and to the rows no more mean leverage:
# training images are few, or the kernel is of no rank.
MOST_DIRECTIONS = 2 / 3
MOST_LEVERAGE = 0.2
HALVINGS = 60  # of a range of log λ: to the last digits of a float64


@dataclass(frozen=True)
class Kernel:
    """Eigenpairs of Φᵀ Φ for Φ ``(N, k)``.

    ``vectors`` ``(k, r)`` are orthonormal directions in feature space, ``values`` ``(r,)`` their
    eigenvalues, ascending and positive.  Off their span Φᵀ Φ is zero.
    """

    vectors: torch.Tensor
    values: torch.Tensor

    @property
    def dimension(self) -> int:
        """The number k of features."""
        return len(self.vectors)

    @classmethod
    def of_rows(cls, blocks: Blocks, rows: int, dimension: int) -> Kernel:
        """Factorise Φ, given as a function that streams its rows in blocks of ``(b, k)``.

        Primal reads the rows once and holds one ``(k, k)`` matrix; dual holds Φ itself, which is
        then the smaller thing.
        """
        if dimension <= rows:
            gram = torch.zeros((dimension, dimension), dtype=torch.float64)
            for block in blocks():
                wide = block.double()
                gram.addmm_(wide.T, wide)
            values, vectors = torch.linalg.eigh(gram)
            first = _first_significant(values)
            return cls(vectors[:, first:], values[first:])
        phi = torch.empty((rows, dimension), dtype=torch.float64)
        start = 0
        for block in blocks():
            phi[start : start + len(block)] = block
            start += len(block)
        values, left = torch.linalg.eigh(phi @ phi.T)
        first = _first_significant(values)
        return cls(phi.T @ (left[:, first:] / values[first:].sqrt()), values[first:])

    def absolute(self, relative: float) -> float:
        """λ for a damping stated relative to the mean eigenvalue, trace / k."""
        return relative * float(self.values.sum()) / self.dimension

    def inside(self, rows: torch.Tensor) -> torch.Tensor:
        """The rows' coordinates along the eigenvectors: ``(b, r)``."""
        return rows.double() @ self.vectors

    def precondition(self, rows: torch.Tensor, damping: float) -> torch.Tensor:
        """H⁻¹ applied to each row: ``(b, k)``."""
        inside = self.inside(rows)
        # H⁻¹ = I/λ off the span; on it 1/(σ+λ).
        off = (rows.double() - inside @ self.vectors.T) / damping
        return off + (inside / (self.values + damping)) @ self.vectors.T

    def leverages(self, inside: torch.Tensor, dampings: torch.Tensor) -> torch.Tensor:
        """h = φᵀ H⁻¹ φ of rows of Φ, given by their coordinates, for each λ: ``(L, b)``.

        They lie in [0, 1).
        """
        return (1 / (self.values + dampings[:, None])) @ (inside**2).T

    def degrees_of_freedom(self, damping: float) -> float:
        """Σ σ/(σ+λ), the effective number of directions that λ leaves; equals Σ h over Φ."""
        return float((self.values / (self.values + damping)).sum())

    def damping_leaving(self, directions: float, rows: int) -> float:
        """λ under which Σ σ/(σ+λ), the effective number of directions, is ``directions``.

        It is also the sum of the leverages of the ``rows`` of Φ, which bounds it.
        """
        wanted = min(directions, MOST_LEVERAGE * rows, MOST_DIRECTIONS * len(self.values))
        # Between these the sum falls from nearly all directions to nearly none.
        low = math.log(float(self.values[0])) - 30
        high = math.log(float(self.values[-1])) + 30
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            if self.degrees_of_freedom(math.exp(middle)) > wanted:
                low = middle
            else:
                high = middle
        return math.exp(high)


def _first_significant(values: torch.Tensor) -> int:
    """Where ascending eigenvalues begin to stand above rounding."""
    if not len(values) or float(values[-1]) <= 0:
        raise KernelError("every feature is zero: the model's output depends on no selected layer")
    rounding = values[-1] * len(values) * torch.finfo(torch.float64).eps
    return int((values <= rounding).sum())


class KernelError(InputError):
    """There is nothing to factorise."""
