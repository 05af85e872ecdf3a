"""Drawing with DDIM, one step at a time: the path to a picture, not only its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDIMScheduler


@dataclass(frozen=True)
class Step:
    """One step of a drawing: its ``timestep``, the x̂_0 seen there and what it goes on with."""

    timestep: int
    predicted_x_0: torch.Tensor
    sample: torch.Tensor


def starting_noise(seeds: Sequence[int], shape: Sequence[int]) -> torch.Tensor:
    """x_T ``(B, C, H, W)``: each picture's from its own seed, whatever is drawn beside it."""
    return torch.stack(
        [torch.randn(tuple(shape), generator=torch.Generator().manual_seed(s)) for s in seeds]
    )


@torch.no_grad()
def ddim_steps(
    predict: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    scheduler_config: Any,
    noise: torch.Tensor,
    steps: int,
) -> Iterator[Step]:
    """Denoise ``noise`` ``(B, C, H, W)`` by ``steps`` deterministic steps of DDIM.

    ``predict(x_t, t)`` is the model's output.  The last step's ``sample`` is the picture.
    """
    scheduler = DDIMScheduler.from_config(scheduler_config)
    scheduler.set_timesteps(steps)
    sample = noise
    for t in scheduler.timesteps:
        result = scheduler.step(predict(sample, t), t, sample)
        sample = result.prev_sample
        yield Step(int(t), result.pred_original_sample, sample)
