"""Models of a VAE's latents: x_0 is the scaled mode of the encoder's distribution."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image

from attribution.families.family import Family
from attribution.families.pixels import to_image
from attribution.image_set import pixels
from attribution.model_directory import DenoiserError


class Latents(Family):
    """x_0 = (mode - shift) · scale, and back by the decoder."""

    def __init__(self, pipeline: Any) -> None:
        super().__init__(pipeline)
        config: Any = pipeline.vae.config
        if config.latent_channels != self.shape[0]:
            raise DenoiserError(
                f"the VAE makes {config.latent_channels} channels, and the network reads"
                f" {self.shape[0]}"
            )
        self.scale: float = config.scaling_factor
        self.shift: float = getattr(config, "shift_factor", None) or 0.0
        smaller = 2 ** (len(config.block_out_channels) - 1)
        self.picture = (config.in_channels, self.shape[1] * smaller, self.shape[2] * smaller)
        pipeline.vae.eval()

    @torch.no_grad()
    def encode(self, image: Image.Image) -> torch.Tensor:
        """The scaled mode of an image of any size."""
        x = pixels(image, self.picture)[None].to(self.device)
        mode: torch.Tensor = self.pipeline.vae.encode(x).latent_dist.mode()
        return ((mode - self.shift) * self.scale)[0]

    @torch.no_grad()
    def decode(self, x_0: torch.Tensor) -> list[Image.Image]:
        """One picture after the other: a large picture's decoder needs much memory."""
        latents = x_0 / self.scale + self.shift
        return [to_image(self.pipeline.vae.decode(one[None]).sample[0]) for one in latents]
