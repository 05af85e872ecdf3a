"""The extraction loop: samples in, averaged projected gradients and residuals out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from attribution.denoisers import Condition, Denoiser
from attribution.gradients import GradientProjector
from attribution.index.config import IndexConfig, Normalisation
from attribution.noise import sample_noise, select_timesteps
from attribution.outputs import output_function


@dataclass(frozen=True)
class Features:
    """``gradients`` φ̄ ``(n, m, k)`` float32, ``residuals`` r̄ ``(n,)`` float32 (Algorithm 1)."""

    gradients: NDArray[np.float32]
    residuals: NDArray[np.float32]


class FeatureExtractor:
    """φ̄_q(x) and r̄(x) of samples under one configuration.

    Per timestep: one forward pass and m backward passes.  Noise is seeded by the sample's key,
    so a row is the same whatever it is batched with (up to rounding).
    """

    def __init__(self, denoiser: Denoiser, config: IndexConfig) -> None:
        self.denoiser = denoiser
        self.config = config
        self.timesteps = select_timesteps(
            config.timesteps, config.schedule, denoiser.train_timesteps
        )
        self.output = output_function(config.output, config.grid, denoiser.shape)
        self.projector = GradientProjector(
            denoiser.network,
            parameters=config.parameters,
            projection_dim=config.projection_dim,
            seed=config.seed,
        )

    def extract(
        self,
        keys: Sequence[str],
        x_0: torch.Tensor,
        condition: Condition,
        on_progress: Callable[[float], None] | None = None,
    ) -> Features:
        """Features of one batch ``x_0`` ``(B, C, H, W)``, averaged over the timesteps (Eq. 17)."""
        m, k = self.output.count, self.projector.size
        gradients = RunningMean((len(keys), m, k), self.config.normalisation)
        residuals = []
        for done, t in enumerate(self.timesteps, start=1):
            g_t, r_t = self.at_timestep(keys, x_0, condition, t)
            gradients.add(g_t)
            residuals.append(r_t)
            if on_progress:
                on_progress(done / len(self.timesteps))
        r = torch.stack(residuals)
        return Features(
            gradients.result().cpu().numpy(),
            (r / r.norm(dim=0).clamp_min(1e-12)).mean(dim=0).cpu().numpy(),
        )

    def at_timestep(
        self, keys: Sequence[str], x_0: torch.Tensor, condition: Condition, t: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """g_t ``(B, m, k)`` and ‖r_t‖ ``(B,)`` at one timestep."""
        denoiser = self.denoiser
        noise = sample_noise(keys, t, denoiser.shape, self.config.seed).to(denoiser.device)
        x_0 = x_0.to(denoiser.device)
        steps = torch.full((len(keys),), t, device=denoiser.device)
        target = denoiser.target(x_0, noise, steps)
        with self.projector.recording():
            predicted = denoiser.predict(denoiser.add_noise(x_0, noise, steps), steps, condition)
            cotangents = self.output.cotangents(predicted.detach(), target)
            rows = [self.projector.project(predicted, cotangent) for cotangent in cotangents]
        residual = (predicted.detach() - target).flatten(1).norm(dim=1)
        return torch.stack(rows, dim=1), residual


class RunningMean:
    """The average over timesteps, under one of the normalisations of Eq. 17.

    ``none`` is the plain mean; ``timestep`` divides each g_t by its own length first (Algorithm 1);
    ``elementwise`` is Eq. 17 to the letter: each element by its root sum of squares over t.
    """

    def __init__(self, shape: tuple[int, ...], normalisation: Normalisation) -> None:
        self.normalisation = normalisation
        self.total = torch.zeros(shape)
        self.squares = torch.zeros(shape) if normalisation == "elementwise" else None
        self.count = 0

    def add(self, g_t: torch.Tensor) -> None:
        """Add one timestep's gradients."""
        if self.normalisation == "timestep":
            g_t = g_t / g_t.norm(dim=-1, keepdim=True).clamp_min(1e-12)
        self.total = self.total.to(g_t.device) + g_t
        if self.squares is not None:
            self.squares = self.squares.to(g_t.device) + g_t**2
        self.count += 1

    def result(self) -> torch.Tensor:
        """The average of what was added."""
        mean = self.total / self.count
        return mean if self.squares is None else mean / self.squares.sqrt().clamp_min(1e-12)
