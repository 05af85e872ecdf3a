"""Gradients of the training loss, compared without a kernel (Appendix F.3)."""

from __future__ import annotations

from attribution.methods.method import Cosine, InnerProduct


class Gradient(InnerProduct):
    """g_q · g_i (Charpiat et al., 2019)."""

    name = "gradient"
    outputs = ("loss",)


class GradientCosine(Cosine):
    """cos(g_q, g_i) (Charpiat et al., 2019)."""

    name = "gradient-cosine"
    outputs = ("loss",)


class TracIn(Gradient):
    """g_q · g_i, averaged over checkpoints of the training (Pruthi et al., 2020)."""

    name = "tracin"
    needs = frozenset({"checkpoints"})


class Gas(GradientCosine):
    """cos(g_q, g_i), averaged over checkpoints of the training (Hammoudeh & Lowd, 2022)."""

    name = "gas"
    needs = frozenset({"checkpoints"})
