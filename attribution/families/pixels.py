"""Models of pixels: without text, and with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from PIL import Image

from attribution.families.family import Condition, Family
from attribution.image_set import pixels
from attribution.model_directory import DenoiserError


class Pixels(Family):
    """x_0 is the picture itself, in [-1, 1]."""

    def __init__(self, pipeline: Any) -> None:
        super().__init__(pipeline)
        if self.shape[0] not in (1, 3):
            raise DenoiserError(f"the model sees {self.shape[0]} channels; pictures have 1 or 3")

    def encode(self, image: Image.Image) -> torch.Tensor:
        """Its pixels."""
        return pixels(image, self.shape)

    def decode(self, x_0: torch.Tensor) -> list[Image.Image]:
        """The pixels' pictures."""
        return [to_image(one) for one in x_0]


class UnconditionalPixels(Pixels):
    """``DDPMPipeline``: a U-Net that is told nothing."""

    def __init__(self, pipeline: Any) -> None:
        super().__init__(pipeline)
        config: Any = self.network.config
        if config.class_embed_type or config.num_class_embeds:
            raise DenoiserError("models of labelled classes are not supported")

    def condition(self, captions: Sequence[str | None]) -> Condition:
        """Nothing."""
        return Condition()

    def predict(self, x_t: torch.Tensor, time: torch.Tensor, condition: Condition) -> torch.Tensor:
        """ε_θ(x_t, t)."""
        return cast(torch.Tensor, self.network(x_t, time).sample)


class PixelTextToImage(Pixels):
    """``PixelTextToImagePipeline``: token states by cross-attention, the pooled text with t."""

    def condition(self, captions: Sequence[str | None]) -> Condition:
        """A missing caption is the empty one of guidance training."""
        states, pooled = self.pipeline.encode_prompt([caption or "" for caption in captions])
        return Condition({"states": states, "pooled": pooled})

    def predict(self, x_t: torch.Tensor, time: torch.Tensor, condition: Condition) -> torch.Tensor:
        """ε_θ(x_t, t, c)."""
        output = self.network(x_t, time, condition["states"], class_labels=condition["pooled"])
        return cast(torch.Tensor, output.sample)


def to_image(x: torch.Tensor) -> Image.Image:
    """A picture of pixels ``(C, H, W)`` in [-1, 1]: grey for one channel, RGB for three."""
    array = ((x.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
