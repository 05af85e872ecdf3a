"""Similarity of images: what the paper compares with first (Appendix F.3)."""

from __future__ import annotations

from attribution.methods.method import Cosine, InnerProduct


class RawPixel(InnerProduct):
    """Inner product of pixels in [-1, 1]."""

    name = "raw-pixel"
    outputs = ("pixels",)


class RawPixelCosine(Cosine):
    """Cosine of pixels in [-1, 1]."""

    name = "raw-pixel-cosine"
    outputs = ("pixels",)


class Clip(InnerProduct):
    """Inner product of CLIP's image embeddings."""

    name = "clip"
    outputs = ("clip",)


class ClipCosine(Cosine):
    """Cosine of CLIP's image embeddings."""

    name = "clip-cosine"
    outputs = ("clip",)
