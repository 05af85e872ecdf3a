"""The classes of pipelines that can be attributed, each behind the same face."""

from __future__ import annotations

from typing import Any

from attribution.families.classes import ClassConditional
from attribution.families.family import Condition, Family
from attribution.families.pixels import PixelTextToImage, UnconditionalPixels
from attribution.families.stable_diffusion import StableDiffusion, StableDiffusionXL
from attribution.families.stable_diffusion_3 import StableDiffusion3

FAMILIES: dict[str, type[Family]] = {
    "DDPMPipeline": UnconditionalPixels,
    "PixelTextToImagePipeline": PixelTextToImage,
    "StableDiffusionPipeline": StableDiffusion,
    "StableDiffusionXLPipeline": StableDiffusionXL,
    "StableDiffusion3Pipeline": StableDiffusion3,
    "DiTPipeline": ClassConditional,
}


def family_of(pipeline: Any) -> Family:
    """The family of a loaded pipeline."""
    return FAMILIES[type(pipeline).__name__](pipeline)


__all__ = ["FAMILIES", "Condition", "Family", "family_of"]
