"""What a method is: a rule that makes scores of inner products between images' features.

Nothing in this package imports numpy when it is imported: the API reads the table too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


@dataclass(frozen=True)
class TrainingRows:
    """What an index knows of b training images beside the direction of their features.

    ``lengths`` ‖φ‖, ``leverages`` h = φᵀH⁻¹φ, ``solved_lengths`` ‖H⁻¹φ‖ and ``probed_residuals``
    are ``(b, G, m)``; ``residuals`` r̄ ``(b, G)``; ``hats`` ``(b, G, m, m)`` = φ_qᵀH⁻¹φ_q' only
    where timesteps are kept apart.
    """

    lengths: Array
    leverages: Array
    solved_lengths: Array
    residuals: Array
    probed_residuals: Array
    hats: Array | None


class Method(Protocol):
    """Products of Q queries with b training images to effects and scores.

    With ``uses_kernel`` the query's side of a product is H⁻¹φ, otherwise φ.  ``all_pairs`` asks for
    the products of every output of the query with every output of the training image.
    """

    @property
    def name(self) -> str:
        """The name by which it is asked for."""
        ...

    @property
    def section(self) -> str:
        """Where the paper defines it."""
        ...

    @property
    def outputs(self) -> tuple[str, ...]:
        """The outputs (``IndexConfig.output``) that it can be computed from, its own first."""
        ...

    @property
    def signed(self) -> bool:
        """Whether scores below zero are opponents; unsigned scores are never below."""
        ...

    @property
    def uses_kernel(self) -> bool:
        """Whether the query is preconditioned with H⁻¹."""
        ...

    @property
    def all_pairs(self) -> bool:
        """Whether products have two output axes, ``(Q, b, G, m, m)``."""
        ...

    @property
    def needs(self) -> frozenset[str]:
        """Beside the finished model: ``checkpoints``, ``trajectory``, ``timesteps apart``."""
        ...

    def effects(self, products: Array, rows: TrainingRows, query_lengths: Array) -> Array:
        """Effects ``(Q, b, G, m)``; ``query_lengths`` ‖φ‖ are ``(Q, G, m)``."""
        ...

    def parts(self, effects: Array, rows: TrainingRows) -> Array:
        """What each output adds to the score: ``(Q, b, m)``."""
        ...

    def score(self, effects: Array, rows: TrainingRows) -> Array:
        """Scores ``(Q, b)``: the more, the more influence; positive for proponents."""
        ...


class InnerProduct:
    """The simplest method, and what most others change one thing of: the product, averaged."""

    name = "dot"
    section = "Appendix F.3"
    outputs: tuple[str, ...] = ()
    signed = True
    uses_kernel = False
    all_pairs = False
    needs: frozenset[str] = frozenset()

    def effects(self, products: Array, rows: TrainingRows, query_lengths: Array) -> Array:
        """The inner products themselves."""
        return products

    def parts(self, effects: Array, rows: TrainingRows) -> Array:
        """Effects averaged over checkpoints."""
        mean: Array = effects.mean(axis=2)
        return mean

    def score(self, effects: Array, rows: TrainingRows) -> Array:
        """The parts, summed over outputs."""
        scores: Array = self.parts(effects, rows).sum(axis=2)
        return scores


class Cosine(InnerProduct):
    """The product of directions."""

    def effects(self, products: Array, rows: TrainingRows, query_lengths: Array) -> Array:
        """Products over both lengths."""
        cosines: Array = products / above_zero(query_lengths[:, None] * rows.lengths)
        return cosines


def above_zero(lengths: Array) -> Array:
    """Lengths to divide by: an image without a gradient has no influence, not an infinite one."""
    floored: Array = lengths.clip(1e-300)
    return floored
