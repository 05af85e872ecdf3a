"""Stable Diffusion 1 and 2, and XL: a U-Net over latents that reads CLIP's token states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch

from attribution.families.family import Condition
from attribution.families.latents import Latents


class StableDiffusion(Latents):
    """``StableDiffusionPipeline``."""

    @torch.no_grad()
    def condition(self, captions: Sequence[str | None]) -> Condition:
        """The captions' token states; a missing caption is the empty one."""
        texts = [caption or "" for caption in captions]
        states, _ = self.pipeline.encode_prompt(texts, self.device, 1, False)
        return Condition({"states": states})

    def predict(self, x_t: torch.Tensor, time: torch.Tensor, condition: Condition) -> torch.Tensor:
        """ε_θ(x_t, t, c)."""
        return cast(torch.Tensor, self.network(x_t, time, condition["states"]).sample)


class StableDiffusionXL(Latents):
    """``StableDiffusionXLPipeline``: two text towers; with t the pooled text, sizes and crop.

    Pictures count as uncropped, and of the size that the model sees.
    """

    @torch.no_grad()
    def condition(self, captions: Sequence[str | None]) -> Condition:
        """The captions' token states and pooled text; a missing caption is the empty one."""
        texts = [caption or "" for caption in captions]
        states, _, pooled, _ = self.pipeline.encode_prompt(
            texts, device=self.device, do_classifier_free_guidance=False
        )
        return self._told(states, pooled)

    @torch.no_grad()
    def guidance(self, prompts: Sequence[str], negative: str) -> tuple[Condition, Condition]:
        """As the pipeline has it: no negative prompt may mean zeros instead of the empty text."""
        states, without, pooled, pooled_without = self.pipeline.encode_prompt(
            list(prompts),
            device=self.device,
            do_classifier_free_guidance=True,
            negative_prompt=[negative] * len(prompts) if negative else None,
        )
        return self._told(states, pooled), self._told(without, pooled_without)

    def _told(self, states: torch.Tensor, pooled: torch.Tensor) -> Condition:
        _, height, width = self.picture
        sizes = torch.tensor([height, width, 0, 0, height, width], dtype=states.dtype)
        return Condition(
            {
                "states": states,
                "pooled": pooled,
                "time_ids": sizes.to(states.device).repeat(len(states), 1),
            }
        )

    def predict(self, x_t: torch.Tensor, time: torch.Tensor, condition: Condition) -> torch.Tensor:
        """ε_θ(x_t, t, c)."""
        added = {"text_embeds": condition["pooled"], "time_ids": condition["time_ids"]}
        output = self.network(x_t, time, condition["states"], added_cond_kwargs=added)
        return cast(torch.Tensor, output.sample)
