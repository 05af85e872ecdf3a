"""Effects of features in memory, for tests that need no index on disk."""

from __future__ import annotations

import numpy as np
import torch

from attribution.kernel import Kernel


def products_with(
    phi: np.ndarray, queries: np.ndarray, relative: float
) -> tuple[np.ndarray, np.ndarray]:
    """φ_q(gen)ᵀ H⁻¹ φ_q(i) ``(Q, n, m)`` and leverages ``(n, m)`` of φ ``(n, m, k)``."""
    n, m, k = phi.shape
    flat = torch.from_numpy(phi.reshape(-1, k))
    kernel = Kernel.of_rows(lambda: [flat], n * m, k)
    lam = kernel.absolute(relative)
    solved = kernel.precondition(flat, lam).numpy().reshape(n, m, k)
    h = kernel.leverages(kernel.inside(flat), torch.tensor([lam], dtype=torch.float64))
    return np.einsum("Qmk,nmk->Qnm", queries, solved), h.numpy().reshape(n, m)
