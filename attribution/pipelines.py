"""A text-to-image diffusion pipeline in pixel space, in diffusers' own directory format.

diffusers has pixel pipelines without text (``DDPMPipeline``) and text pipelines with a VAE
(``StableDiffusionPipeline``); small text-conditional models are neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from diffusers import DDIMScheduler, DiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModelWithProjection, PreTrainedTokenizerBase

from attribution.sampling import Step, ddim_steps, starting_noise


class PixelTextToImagePipeline(DiffusionPipeline):  # type: ignore[misc]
    """U-Net in pixel space, conditioned on a CLIP text tower.

    The tower's token states enter by cross-attention; its pooled embedding enters with the
    timestep, through the U-Net's ``class_embed_type="projection"``.
    """

    unet: UNet2DConditionModel
    scheduler: DDIMScheduler
    text_encoder: CLIPTextModelWithProjection
    tokenizer: PreTrainedTokenizerBase

    def __init__(
        self,
        unet: UNet2DConditionModel,
        scheduler: DDIMScheduler,
        text_encoder: CLIPTextModelWithProjection,
        tokenizer: PreTrainedTokenizerBase,
    ) -> None:
        super().__init__()
        self.register_modules(
            unet=unet, scheduler=scheduler, text_encoder=text_encoder, tokenizer=tokenizer
        )

    @torch.no_grad()
    def encode_prompt(self, prompts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Token states ``(B, L, d)`` and pooled embeddings ``(B, d)`` of the prompts."""
        tokens = self.tokenizer(
            list(prompts),
            padding="max_length",
            truncation=True,
            max_length=self.text_encoder.config.max_position_embeddings,
            return_tensors="pt",
        )
        output = self.text_encoder(tokens.input_ids.to(self.text_encoder.device))
        return output.last_hidden_state, output.text_embeds

    @torch.no_grad()
    def __call__(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        negative_prompt: str = "",
        num_inference_steps: int = 50,
        guidance_scale: float = 1.0,
        on_step: Callable[[int], None] | None = None,
    ) -> torch.Tensor:
        """Draw one picture per prompt and seed with DDIM: ``(B, 3, H, W)`` in [-1, 1].

        Each picture's starting noise comes from its own seed, so a picture does not depend on
        what else is drawn in the same call.  ``guidance_scale`` 1 draws without guidance.
        """
        path = self.steps(prompts, seeds, negative_prompt, num_inference_steps, guidance_scale)
        sample = torch.empty(0)
        for done, step in enumerate(path, start=1):
            sample = step.sample
            if on_step:
                on_step(done)
        return sample.clamp(-1, 1)

    @torch.no_grad()
    def steps(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        negative_prompt: str = "",
        num_inference_steps: int = 50,
        guidance_scale: float = 1.0,
    ) -> Iterator[Step]:
        """The steps of the same drawing, one by one."""
        if len(prompts) != len(seeds):
            raise ValueError(f"{len(prompts)} prompts but {len(seeds)} seeds")
        config: Any = self.unet.config
        size = config.sample_size
        shape = (config.in_channels, *((size, size) if isinstance(size, int) else size))
        noise = starting_noise(seeds, shape).to(self.unet.device)
        states, pooled = self.encode_prompt(prompts)
        guided = guidance_scale != 1.0
        if guided:
            negative = self.encode_prompt([negative_prompt] * len(prompts))
            states, pooled = torch.cat([negative[0], states]), torch.cat([negative[1], pooled])

        def predict(sample: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            batch = torch.cat([sample, sample]) if guided else sample
            predicted: torch.Tensor = self.unet(batch, t, states, class_labels=pooled).sample
            if guided:
                without, with_text = predicted.chunk(2)
                predicted = without + guidance_scale * (with_text - without)
            return predicted

        return ddim_steps(predict, self.scheduler.config, noise, num_inference_steps)
