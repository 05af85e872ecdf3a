"""D-TRAK (Zheng et al., 2024): TRAK's score on another output function."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class DTrak:
    """φ(gen)ᵀ K⁻¹ φ(i) with f = mean(ε_θ²) (paper, Eq. 6 and 10)."""

    name = "d-trak"
    section = "2.2, Eq. 6 and 10"
    outputs = ("square",)

    def score(
        self, effects: NDArray[np.float64], residuals: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Signed scores ``(n,)``; the residual term is the identity (Eq. 6)."""
        return np.asarray(effects[:, 0])
