"""Random projections of gradients: two-sided (to a layer's factors), dense, or none at all.

The gradient of a linear map's weight is Σ_s δ_s a_sᵀ over positions s.  Projecting the factors,
``(P_out δ)(P_in a)ᵀ``, gives k_out·k_in numbers and never forms the gradient (LoGra, 2024).  Few
numbers of a layer estimate inner products badly, so its factors stay wider than k allows, and what
all layers give is folded to k: added up under random signs (Charikar, Chen & Farach-Colton, 2002).
A dense projection multiplies the whole gradient (Johnson & Lindenstrauss, as the paper does); it is
here for reference and small models.  All are scaled so that inner products are unbiased.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from attribution.index.config import ProjectionKind

CHUNK_NUMBERS = 2**24  # of a dense matrix at a time: 64 MB
KEPT_NUMBERS = 2**28  # of dense matrices between calls: 1 GB; larger ones are drawn anew


@dataclass(frozen=True)
class FactorPair:
    """P_in ``(k_in, d_in)`` and P_out ``(k_out, d_out)`` of one layer."""

    p_in: torch.Tensor
    p_out: torch.Tensor

    @property
    def size(self) -> int:
        """Numbers that this layer contributes to a feature row."""
        return len(self.p_in) * len(self.p_out)


def side_length(projection_dim: int, matrices: int, vectors: int) -> int:
    """k_in = k_out of each layer, so that all give about ``projection_dim`` numbers.

    ``matrices`` layers give side² numbers, ``vectors`` (normalisation layers) side.
    """
    if not matrices:
        return max(1, projection_dim // max(1, vectors))
    root = math.sqrt(vectors**2 + 4 * matrices * projection_dim)
    return max(1, round((root - vectors) / (2 * matrices)))


def factor_pair(layer: str, d_in: int, d_out: int, side: int | None, seed: int) -> FactorPair:
    """The two-sided projection of one layer, determined by the layer's name and the seed alone."""
    return FactorPair(
        gaussian(f"{layer}/in", d_in, side, seed), gaussian(f"{layer}/out", d_out, side, seed)
    )


def gaussian(name: str, d: int, k: int | None, seed: int) -> torch.Tensor:
    """P ``(k, d)``, entries of variance 1/k.

    What is already as short as k is left as it is: projecting it would only add noise.  ``k=None``
    is the identity.
    """
    if k is None or d <= k:
        return torch.eye(d)
    return torch.randn((k, d), generator=_generator(name, seed)) / math.sqrt(k)


class Fold:
    """(B, d) to (B, k): every k-th number added up, each under a random sign.

    Inner products are unbiased; what is as short as k is left as it is.
    """

    def __init__(self, d: int, k: int, seed: int, device: torch.device) -> None:
        self.size = min(d, k)
        self._missing = -d % self.size  # numbers to a multiple of k
        self._signs: torch.Tensor | None = None
        if d > k:
            drawn = torch.randint(0, 2, (d,), generator=_generator("fold", seed), dtype=torch.int8)
            self._signs = (drawn * 2 - 1).to(device)

    def apply(self, rows: torch.Tensor) -> torch.Tensor:
        """The folded rows."""
        if self._signs is None:
            return rows
        signed = F.pad(rows * self._signs, (0, self._missing))
        folded: torch.Tensor = signed.reshape(len(rows), -1, self.size).sum(dim=1)
        return folded


class DenseProjection:
    """P ``(d, k)`` of independent Gaussian or ±1 entries of variance 1/k, for one layer.

    The paper's projection.  It is drawn in chunks from the layer's name and the seed, and kept
    between calls where all of the layers' matrices (``total`` rows) fit into ``KEPT_NUMBERS``.
    """

    def __init__(
        self, kind: ProjectionKind, layer: str, d: int, k: int, seed: int, total: int
    ) -> None:
        self.kind, self.layer, self.d, self.k, self.seed = kind, layer, d, k, seed
        self._kept = list(self._draw()) if total * k <= KEPT_NUMBERS else None

    def apply(self, rows: torch.Tensor) -> torch.Tensor:
        """``rows @ P`` for gradients ``(B, d)``: ``(B, k)``."""
        projected = torch.zeros((len(rows), self.k), device=rows.device)
        start = 0
        for block in self._kept or self._draw():
            projected += rows[:, start : start + len(block)] @ block.to(rows.device)
            start += len(block)
        return projected

    def _draw(self) -> Iterator[torch.Tensor]:
        height = max(1, CHUNK_NUMBERS // self.k)
        for start in range(0, self.d, height):
            shape = (min(height, self.d - start), self.k)
            generator = _generator(f"{self.layer}/dense/{start}", self.seed)
            if self.kind == "rademacher":
                block = torch.randint(0, 2, shape, generator=generator).float() * 2 - 1
            else:
                block = torch.randn(shape, generator=generator)
            yield block / math.sqrt(self.k)


def _generator(name: str, seed: int) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}\0{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
