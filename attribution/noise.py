"""Which timesteps are looked at, and which noise is added there.

Noise belongs to a sample, or to a timestep, not to a place in a batch: it is drawn from a hash of
the sample's key, or of none, so features do not depend on batch size, order, shard or device.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch

from attribution.index.config import ConfigError, Noise, Schedule

# Of the share √(1-ᾱ_t) that noise has in x_t: what lies above tells training images apart worst.
LOW_NOISE = 0.5
SHARED = "shared"


def select_timesteps(count: int, schedule: Schedule, noise_levels: Sequence[float]) -> list[int]:
    """``count`` of the model's training timesteps, whose √(1-ᾱ_t) are ``noise_levels``.

    ``uniform`` spreads them evenly over all, ``cumulative`` takes the first, and ``low-noise``
    spreads them evenly over the noise levels below ``LOW_NOISE``.
    """
    available = len(noise_levels)
    if schedule == "low-noise":
        available = sum(level <= LOW_NOISE for level in noise_levels)
    if not 1 <= count <= available:
        raise ConfigError(f"timesteps must lie in 1..{available}, not {count}")
    if schedule == "cumulative":
        return list(range(count))
    if schedule == "uniform":
        return [i * available // count for i in range(count)]
    chosen: list[int] = []
    for i in range(count):
        wanted = LOW_NOISE * (i + 0.5) / count
        nearest = min(range(available), key=lambda t: abs(noise_levels[t] - wanted))
        after = chosen[-1] + 1 if chosen else 0
        chosen.append(min(max(nearest, after), available - count + i))
    return chosen


def noise_seed(key: str, timestep: int, draw: int, seed: int) -> int:
    """A seed from ``(key, timestep, draw, seed)``, the same on every machine."""
    text = f"{seed}\0{timestep}\0{draw}\0{key}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def sample_noise(
    keys: Sequence[str],
    timestep: int,
    shape: Sequence[int],
    seed: int,
    draw: int = 0,
    noise: Noise = "per-image",
) -> torch.Tensor:
    """Standard normal noise ``(len(keys), *shape)``.

    Row i is determined by ``keys[i]`` alone; ``shared`` noise is the same for every key.
    """
    if noise == "shared":
        return sample_noise([SHARED], timestep, shape, seed, draw).expand(len(keys), *shape)
    return torch.stack(
        [
            torch.randn(
                tuple(shape),
                generator=torch.Generator().manual_seed(noise_seed(key, timestep, draw, seed)),
            )
            for key in keys
        ]
    )
