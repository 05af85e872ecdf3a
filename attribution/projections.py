"""Random projections of a layer's gradient, which is an outer product, applied to its factors.

The gradient of a linear map's weight is Σ_s δ_s a_sᵀ over positions s.  Projecting the factors,
``(P_out δ)(P_in a)ᵀ``, gives k_out·k_in numbers and never forms the gradient (LoGra, 2024).
With entries of variance 1/k_out and 1/k_in the projected inner product is unbiased.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Literal

import torch

ProjectionKind = Literal["identity", "two-sided"]


@dataclass(frozen=True)
class FactorPair:
    """P_in ``(k_in, d_in)`` and P_out ``(k_out, d_out)`` of one layer."""

    p_in: torch.Tensor
    p_out: torch.Tensor

    @property
    def size(self) -> int:
        """Numbers that this layer contributes to a feature row."""
        return len(self.p_in) * len(self.p_out)


def side_length(projection_dim: int, layers: int) -> int:
    """k_in = k_out per layer so that ``layers`` layers give about ``projection_dim`` numbers."""
    return max(1, round(math.sqrt(projection_dim / layers)))


def factor_pair(
    kind: ProjectionKind, layer: str, d_in: int, d_out: int, side: int, seed: int
) -> FactorPair:
    """The projection of one layer, determined by the layer's name and the seed alone.

    A side that is already as short as ``side`` is left as it is: projecting it would only add
    noise.
    """
    if kind == "identity":
        return FactorPair(torch.eye(d_in), torch.eye(d_out))
    return FactorPair(
        _gaussian(f"{layer}/in", d_in, side, seed), _gaussian(f"{layer}/out", d_out, side, seed)
    )


def _gaussian(name: str, d: int, k: int, seed: int) -> torch.Tensor:
    if d <= k:
        return torch.eye(d)
    digest = hashlib.sha256(f"{seed}\0{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    return torch.randn((k, d), generator=generator) / math.sqrt(k)
