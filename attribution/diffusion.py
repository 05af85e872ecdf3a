"""The two ways noise is added and taken away: diffusion in discrete steps, and flow matching.

A process is named by the index t of a training timestep, ``0 ≤ t < len(noise_levels)``, the least
noise first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from diffusers import DDIMScheduler, DDPMScheduler, FlowMatchEulerDiscreteScheduler

from attribution.model_directory import DenoiserError

Predict = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Step:
    """One step of a drawing: its ``timestep``, the x̂_0 seen there and what it goes on with."""

    timestep: int
    predicted_x_0: torch.Tensor
    sample: torch.Tensor


class Process(Protocol):
    """How a model's noise is added, what the network is asked for, and how pictures are drawn.

    ``noise_levels`` are the shares of noise in x_t, as its part of a vector of unit length.
    """

    noise_levels: list[float]

    def add_noise(self, x_0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """x_t for timesteps ``t`` of shape ``(B,)``."""
        ...

    def target(self, x_0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """What the network was trained to predict at x_t."""
        ...

    def network_time(self, t: torch.Tensor) -> torch.Tensor:
        """What the network is told of the timesteps ``t``."""
        ...

    def draw(self, predict: Predict, noise: torch.Tensor, steps: int) -> Iterator[Step]:
        """Denoise ``noise`` ``(B, C, H, W)`` in so many steps; the last ``sample`` is x_0.

        ``predict(x, time)`` is the network's output at network time ``(B,)``.
        """
        ...


class DiscreteDiffusion:
    """x_t = √ᾱ_t x_0 + √(1-ᾱ_t) ε; the target is ε, or the velocity √ᾱ_t ε - √(1-ᾱ_t) x_0."""

    def __init__(self, scheduler_config: Any, name: str) -> None:
        self.config = scheduler_config
        self.prediction_type = scheduler_config.get("prediction_type")
        if self.prediction_type not in ("epsilon", "v_prediction"):
            raise DenoiserError(
                f"{name} with prediction type {self.prediction_type} is not supported"
            )
        self.schedule: Any = DDPMScheduler.from_config(scheduler_config)
        alphas_cumprod: torch.Tensor = self.schedule.alphas_cumprod
        self.noise_levels: list[float] = (1 - alphas_cumprod.double()).sqrt().tolist()

    def add_noise(self, x_0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """x_t."""
        return cast(torch.Tensor, self.schedule.add_noise(x_0, noise, t))

    def target(self, x_0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """ε, or the velocity."""
        if self.prediction_type == "v_prediction":
            return cast(torch.Tensor, self.schedule.get_velocity(x_0, noise, t))
        return noise

    def network_time(self, t: torch.Tensor) -> torch.Tensor:
        """The timestep itself."""
        return t

    @torch.no_grad()
    def draw(self, predict: Predict, noise: torch.Tensor, steps: int) -> Iterator[Step]:
        """Deterministic steps of DDIM."""
        scheduler = DDIMScheduler.from_config(self.config)
        scheduler.set_timesteps(steps)
        sample = noise
        for t in scheduler.timesteps:
            time = t.to(sample.device).expand(len(sample))
            result = scheduler.step(predict(sample, time), t, sample)
            sample = result.prev_sample
            yield Step(int(t), result.pred_original_sample, sample)


class FlowMatching:
    """x_t = (1-σ_t) x_0 + σ_t ε; the target is the velocity ε - x_0."""

    def __init__(self, scheduler_config: Any) -> None:
        if scheduler_config.get("use_dynamic_shifting"):
            raise DenoiserError("flow matching with dynamic shifting is not supported")
        self.config = scheduler_config
        self.schedule: Any = FlowMatchEulerDiscreteScheduler.from_config(scheduler_config)
        # The scheduler lists them from pure noise on.
        self.sigmas: torch.Tensor = self.schedule.sigmas.flip(0).float()
        s = self.sigmas.double()
        self.noise_levels: list[float] = (s / (s**2 + (1 - s) ** 2).sqrt()).tolist()

    def _sigma(self, t: torch.Tensor) -> torch.Tensor:
        return self.sigmas.to(t.device)[t][:, None, None, None]

    def add_noise(self, x_0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """x_t."""
        sigma = self._sigma(t)
        return (1 - sigma) * x_0 + sigma * noise

    def target(self, x_0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """ε - x_0."""
        return noise - x_0

    def network_time(self, t: torch.Tensor) -> torch.Tensor:
        """σ in thousandths (of the number of training timesteps)."""
        return self.sigmas.to(t.device)[t] * len(self.sigmas)

    @torch.no_grad()
    def draw(self, predict: Predict, noise: torch.Tensor, steps: int) -> Iterator[Step]:
        """Euler's steps along the velocity, which is straight down to x_0."""
        scheduler = FlowMatchEulerDiscreteScheduler.from_config(self.config)
        scheduler.set_timesteps(steps)
        sample = noise
        for sigma, t in zip(scheduler.sigmas[:-1], scheduler.timesteps, strict=True):
            velocity = predict(sample, t.to(sample.device).expand(len(sample)))
            x_0 = sample - sigma.to(sample.device) * velocity
            sample = scheduler.step(velocity, t, sample).prev_sample
            yield Step(int((self.sigmas - sigma).abs().argmin()), x_0, sample)


def starting_noise(seeds: Sequence[int], shape: Sequence[int]) -> torch.Tensor:
    """x_T ``(B, C, H, W)``: each picture's from its own seed, whatever is drawn beside it."""
    return torch.stack(
        [torch.randn(tuple(shape), generator=torch.Generator().manual_seed(s)) for s in seeds]
    )
