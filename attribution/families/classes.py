"""Class-conditional transformers over latents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch

from attribution.families.family import Condition
from attribution.families.latents import Latents
from attribution.model_directory import DenoiserError


class ClassConditional(Latents):
    """``DiTPipeline``: a caption is the name of a class, or its number."""

    def condition(self, captions: Sequence[str | None]) -> Condition:
        """The captions' classes; no caption is the class that guidance is trained with."""
        labels = [self.label(caption) for caption in captions]
        return Condition({"labels": torch.tensor(labels, device=self.device)})

    def guidance(self, prompts: Sequence[str], negative: str) -> tuple[Condition, Condition]:
        """Away from no class at all; another one cannot be said."""
        if negative:
            raise DenoiserError("this model follows classes and knows no negative prompt")
        return self.condition(prompts), self.condition([None] * len(prompts))

    def label(self, caption: str | None) -> int:
        """The number of a class that the pipeline's ``id2label`` names."""
        config: Any = self.network.config
        classes: int = config.num_embeds_ada_norm
        if not caption:
            return classes
        if caption.strip().isdecimal() and int(caption) < classes:
            return int(caption)
        # A class may have several names, with commas between them.
        named = {self.pipeline.labels.get(name.strip()) for name in caption.split(",")}
        if len(named) != 1 or None in named:
            raise DenoiserError(f"{caption!r} is none of the model's {classes} classes")
        return int(named.pop())

    def predict(self, x_t: torch.Tensor, time: torch.Tensor, condition: Condition) -> torch.Tensor:
        """ε_θ(x_t, t, c), its variance behind it."""
        output = self.network(x_t, timestep=time, class_labels=condition["labels"])
        return cast(torch.Tensor, output.sample)
