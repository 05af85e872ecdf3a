"""Stable Diffusion 3: a transformer over latents, trained by flow matching."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch

from attribution.diffusion import FlowMatching, Process
from attribution.families.family import Condition
from attribution.families.latents import Latents


class StableDiffusion3(Latents):
    """``StableDiffusion3Pipeline``, with its T5 tower or without."""

    def noise_process(self) -> Process:
        """Straight lines from noise to pictures."""
        return FlowMatching(self.pipeline.scheduler.config)

    @torch.no_grad()
    def condition(self, captions: Sequence[str | None]) -> Condition:
        """The captions' states of all towers and CLIP's pooled texts."""
        texts = [caption or "" for caption in captions]
        states, _, pooled, _ = self.pipeline.encode_prompt(
            texts, None, None, device=self.device, do_classifier_free_guidance=False
        )
        return Condition({"states": states, "pooled": pooled})

    def predict(self, x_t: torch.Tensor, time: torch.Tensor, condition: Condition) -> torch.Tensor:
        """v_θ(x_t, σ, c)."""
        output = self.network(
            x_t,
            timestep=time,
            encoder_hidden_states=condition["states"],
            pooled_projections=condition["pooled"],
        )
        return cast(torch.Tensor, output.sample)
