"""Which timesteps are looked at, and which noise is added there.

Noise belongs to a sample, not to its place in a batch: it is drawn from a hash of the sample's
key, so features do not depend on batch size, order, shard or device.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch

from attribution.index.config import ConfigError, Schedule


def select_timesteps(count: int, schedule: Schedule, train_timesteps: int = 1000) -> list[int]:
    """``count`` of the model's training timesteps: evenly spaced, or the first ones."""
    if not 1 <= count <= train_timesteps:
        raise ConfigError(f"timesteps must lie in 1..{train_timesteps}, not {count}")
    if schedule == "cumulative":
        return list(range(count))
    return [i * train_timesteps // count for i in range(count)]


def noise_seed(key: str, timestep: int, draw: int, seed: int) -> int:
    """A seed from ``(key, timestep, draw, seed)``, the same on every machine."""
    text = f"{seed}\0{timestep}\0{draw}\0{key}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def sample_noise(
    keys: Sequence[str], timestep: int, shape: Sequence[int], seed: int, draw: int = 0
) -> torch.Tensor:
    """Standard normal noise ``(len(keys), *shape)``, row i determined by ``keys[i]`` alone."""
    return torch.stack(
        [
            torch.randn(
                tuple(shape),
                generator=torch.Generator().manual_seed(noise_seed(key, timestep, draw, seed)),
            )
            for key in keys
        ]
    )
