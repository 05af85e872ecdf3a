"""TRAK and its relatives: g_qᵀ K⁻¹ g_i, for one scalar of the output (2.2, Appendix F.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attribution.methods.method import InnerProduct, TrainingRows, above_zero

if TYPE_CHECKING:
    from attribution.methods.method import Array


class Trak(InnerProduct):
    """g_qᵀ K⁻¹ g_i with f the training loss (Park et al., 2023)."""

    name = "trak"
    outputs = ("loss",)
    uses_kernel = True


class RelativeInfluence(Trak):
    """TRAK over ‖K⁻¹ g_i‖ (Barshan et al., 2020)."""

    name = "relative-influence"

    def effects(self, products: Array, rows: TrainingRows, query_lengths: Array) -> Array:
        """Products over the length of the preconditioned training gradient."""
        return products / above_zero(rows.solved_lengths)


class RenormalisedInfluence(Trak):
    """TRAK over ‖g_i‖ (Hammoudeh & Lowd, 2022)."""

    name = "renormalised-influence"

    def effects(self, products: Array, rows: TrainingRows, query_lengths: Array) -> Array:
        """Products over the length of the training gradient."""
        return products / above_zero(rows.lengths)


class JourneyTrak(Trak):
    """TRAK from the x̂_0 of every step of the query's own drawing (Georgiev et al., 2023)."""

    name = "journey-trak"
    needs = frozenset({"trajectory"})


class DTrak(InnerProduct):
    """TRAK's score with f = mean(ε_θ²) instead of the loss (Zheng et al., 2024)."""

    name = "dtrak"
    section = "2.2, Eq. 6 and 10"
    outputs: tuple[str, ...] = ("square",)
    uses_kernel = True


class DTrakMean(DTrak):
    """f = mean(ε_θ)."""

    name = "dtrak-mean"
    outputs = ("mean",)


class DTrakL1(DTrak):
    """f = mean(|ε_θ|)."""

    name = "dtrak-l1"
    outputs = ("l1",)


class DTrakL2(DTrak):
    """f = ‖ε_θ‖₂."""

    name = "dtrak-l2"
    outputs = ("l2",)


class DTrakLInfinity(DTrak):
    """f = max|ε_θ|."""

    name = "dtrak-linf"
    outputs = ("linf",)
