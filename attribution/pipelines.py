"""A text-to-image diffusion pipeline in pixel space, in diffusers' own directory format.

diffusers has pixel pipelines without text (``DDPMPipeline``) and text pipelines with a VAE
(``StableDiffusionPipeline``); small text-conditional models are neither.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import DDIMScheduler, DiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModelWithProjection, PreTrainedTokenizerBase


class PixelTextToImagePipeline(DiffusionPipeline):  # type: ignore[misc]
    """U-Net in pixel space, conditioned on a CLIP text tower.

    The tower's token states enter by cross-attention; its pooled embedding enters with the
    timestep, through the U-Net's ``class_embed_type="projection"``.  ``Denoiser`` draws with it.
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
