"""One face for the diffusion models of diffusers: prepare an image, add noise, predict.

A model is a directory in diffusers' own layout.  Weights are read from safetensors only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import diffusers
import torch
import transformers
from diffusers import DDPMScheduler
from PIL import Image
from torch import nn

from attribution.image_folder import pixels
from attribution.index.manifest import weights_digest
from attribution.pipelines import PixelTextToImagePipeline

PIPELINES: dict[str, Any] = {
    "DDPMPipeline": diffusers.DDPMPipeline,
    "PixelTextToImagePipeline": PixelTextToImagePipeline,
}


class DenoiserError(ValueError):
    """The model directory cannot be used; the message says why."""


@dataclass(frozen=True)
class Condition:
    """What the denoiser is told beside the noisy image; every tensor's first axis is the sample."""

    states: torch.Tensor | None = None
    pooled: torch.Tensor | None = None

    def repeat(self, times: int) -> Condition:
        """The same conditions, ``times`` times over."""
        if self.states is None or self.pooled is None:
            return self
        return Condition(self.states.repeat(times, 1, 1), self.pooled.repeat(times, 1))


def pipeline_class(directory: Path) -> str:
    """The class that ``model_index.json`` names; an unsupported one is an error."""
    index = directory / "model_index.json"
    try:
        name = json.loads(index.read_text(encoding="utf-8"))["_class_name"]
    except FileNotFoundError:
        raise DenoiserError(f"{directory} has no model_index.json") from None
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise DenoiserError(f"{index} names no pipeline class") from error
    if name not in PIPELINES:
        raise DenoiserError(f"{name} is not supported yet ({', '.join(sorted(PIPELINES))})")
    return str(name)


class Denoiser:
    """ε_θ(x_t, t, c) of a pixel-space model, with the schedule it was trained under.

    ``network`` is the module whose gradients are taken; it is in evaluation mode.
    """

    def __init__(
        self, pipeline: Any, device: torch.device | str = "cpu", digest: str = "unsaved"
    ) -> None:
        self.digest = digest
        self.device = torch.device(device)
        self.pipeline = pipeline.to(self.device)
        self.pipeline.set_progress_bar_config(disable=True)
        self.network: nn.Module = pipeline.unet.eval()
        config = pipeline.unet.config
        self.shape: tuple[int, int, int] = (
            config.in_channels,
            config.sample_size,
            config.sample_size,
        )
        scheduler_config = pipeline.scheduler.config
        if scheduler_config.prediction_type not in ("epsilon", "v_prediction"):
            raise DenoiserError(
                f"prediction type {scheduler_config.prediction_type} is unsupported"
            )
        self.prediction_type: str = scheduler_config.prediction_type
        self.schedule: Any = DDPMScheduler.from_config(scheduler_config)
        self.train_timesteps: int = scheduler_config.num_train_timesteps
        self.conditional = isinstance(pipeline, PixelTextToImagePipeline)

    @classmethod
    def load(cls, directory: Path | str, device: torch.device | str = "cpu") -> Denoiser:
        """Load a pipeline directory in full precision."""
        directory = Path(directory)
        pipeline = PIPELINES[pipeline_class(directory)]
        for library in (diffusers, transformers):  # their bars would run into the caller's
            library.utils.logging.disable_progress_bar()
        try:
            loaded = pipeline.from_pretrained(
                directory, dtype=torch.float32, use_safetensors=True, local_files_only=True
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise DenoiserError(f"{directory} cannot be loaded: {error}") from error
        return cls(loaded, device, weights_digest(directory, "*/*.safetensors"))

    def encode(self, image: Image.Image) -> torch.Tensor:
        """x_0 of an image of any size: ``(C, H, W)`` in [-1, 1]."""
        return pixels(image, self.shape[1], self.shape[0])

    def condition(self, captions: Sequence[str | None]) -> Condition:
        """The captions' embeddings; a missing caption is the empty one of guidance training."""
        if not self.conditional:
            return Condition()
        states, pooled = self.pipeline.encode_prompt([caption or "" for caption in captions])
        return Condition(states, pooled)

    def add_noise(self, x_0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """x_t = √ᾱ_t x_0 + √(1-ᾱ_t) ε for ``t`` of shape ``(B,)``."""
        return cast(torch.Tensor, self.schedule.add_noise(x_0, noise, t))

    def target(self, x_0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """What the network was trained to predict: ε, or the velocity."""
        if self.prediction_type == "v_prediction":
            return cast(torch.Tensor, self.schedule.get_velocity(x_0, noise, t))
        return noise

    def predict(self, x_t: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
        """ε_θ(x_t, t, c): ``(B, C, H, W)``."""
        if not self.conditional:
            output = self.network(x_t, t).sample
        else:
            output = self.network(x_t, t, condition.states, class_labels=condition.pooled).sample
        return cast(torch.Tensor, output)

    def generate(
        self,
        prompt: str,
        seed: int,
        *,
        steps: int = 50,
        guidance_scale: float = 1.0,
        negative_prompt: str = "",
        on_progress: Callable[[float], None] | None = None,
    ) -> Image.Image:
        """Draw a picture with DDIM; the seed makes it repeatable."""
        if not self.conditional:
            raise DenoiserError("this model draws without text and cannot follow a prompt")
        drawn = self.pipeline(
            [prompt],
            [seed],
            negative_prompt=negative_prompt,
            num_inference_steps=steps,
            guidance_scale=guidance_scale,
            on_step=(lambda done: on_progress(done / steps)) if on_progress else None,
        )
        return to_image(drawn[0])


def to_image(x_0: torch.Tensor) -> Image.Image:
    """An RGB picture of pixels ``(3, H, W)`` in [-1, 1]."""
    array = ((x_0.clamp(-1, 1) + 1) * 127.5).round().byte()
    return Image.fromarray(array.permute(1, 2, 0).cpu().numpy())
