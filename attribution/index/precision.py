"""How the numbers of a row are rounded for the disk, and widened again.

Floats are rounded as they are.  Integers hold signed square roots, in 127 steps of the row's
largest: gradients of some layers are far smaller than those of others, and with equal steps they
would be lost.
"""

from __future__ import annotations

import torch

STEPS = 127


def rounded(rows: torch.Tensor, store: torch.dtype) -> torch.Tensor:
    """Rows ``(…, k)`` in the store's type; for integers each up to a factor of its own."""
    if store != torch.int8:
        return rows.to(store)
    largest = rows.abs().amax(dim=-1, keepdim=True).clamp_min(1e-30)
    return (rows.sign() * (rows.abs() / largest).sqrt() * STEPS).round().to(store)


def widened(stored: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """What was rounded, in float32; written into ``out`` where that is given."""
    wide = stored.float() if out is None else out.copy_(stored)
    return wide.mul_(wide.abs()) if stored.dtype == torch.int8 else wide
