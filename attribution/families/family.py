"""What a class of pipelines must say: how it sees pictures, what it is told and predicts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from torch import nn

from attribution.diffusion import DiscreteDiffusion, Process
from attribution.model_directory import PIPELINES, DenoiserError, PipelineKind


@dataclass(frozen=True)
class Condition:
    """What the denoiser is told beside the noisy image, by name; the first axis is the sample."""

    tensors: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.tensors[name]

    def repeat(self, times: int) -> Condition:
        """The same conditions, ``times`` times over."""
        return Condition(
            {name: t.repeat(times, *[1] * (t.ndim - 1)) for name, t in self.tensors.items()}
        )

    def at(self, rows: torch.Tensor) -> Condition:
        """The conditions of some of the samples."""
        return Condition({name: t[rows] for name, t in self.tensors.items()})

    def followed_by(self, other: Condition) -> Condition:
        """These samples' conditions, then those of ``other``."""
        return Condition(
            {name: torch.cat([t, other.tensors[name]]) for name, t in self.tensors.items()}
        )


class Family(ABC):
    """One class of pipelines.

    ``network`` is the module whose gradients are taken, ``shape`` that of x_0 ``(C, H, W)``,
    ``process`` how noise is added to it.
    """

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline
        self.kind: PipelineKind = PIPELINES[type(pipeline).__name__]
        self.network: nn.Module = getattr(pipeline, self.kind.network)
        config: Any = self.network.config
        if config.sample_size is None:
            raise DenoiserError("the network's configuration has no sample_size")
        size = config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        self.shape: tuple[int, int, int] = (config.in_channels, height, width)
        self.process = self.noise_process()

    def noise_process(self) -> Process:
        """How noise is added: as the pipeline's scheduler says."""
        scheduler = self.pipeline.scheduler
        return DiscreteDiffusion(scheduler.config, type(scheduler).__name__)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    @abstractmethod
    def encode(self, image: Image.Image) -> torch.Tensor:
        """x_0 of an image of any size: ``(C, H, W)``."""

    @abstractmethod
    def decode(self, x_0: torch.Tensor) -> list[Image.Image]:
        """The pictures of x_0 ``(B, C, H, W)``."""

    @abstractmethod
    def condition(self, captions: Sequence[str | None]) -> Condition:
        """What training told the network of images with these captions; None is no caption."""

    def guidance(self, prompts: Sequence[str], negative: str) -> tuple[Condition, Condition]:
        """What the network is told when it draws: towards the prompts, and away from what."""
        return self.condition(prompts), self.condition([negative] * len(prompts))

    @abstractmethod
    def predict(self, x_t: torch.Tensor, time: torch.Tensor, condition: Condition) -> torch.Tensor:
        """The network's output at its own ``time`` ``(B,)``, perhaps with a variance behind it."""
