"""Shards: files of raw features, each written once, so that a killed build loses one at most."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from attribution.features import Features
from attribution.index.manifest import write_atomically


@dataclass(frozen=True)
class Shard:
    """Training samples ``start`` to ``stop`` (exclusive) of the sorted folder."""

    number: int
    start: int
    stop: int

    @property
    def file_name(self) -> str:
        """Where it lies in the index directory."""
        return f"shards/{self.number:06d}.safetensors"

    def __len__(self) -> int:
        return self.stop - self.start


def plan_shards(n: int, shard_size: int) -> list[Shard]:
    """Cut n samples into shards of ``shard_size``, the last one shorter."""
    if n < 1 or shard_size < 1:
        raise ValueError(f"cannot cut {n} samples into shards of {shard_size}")
    starts = range(0, n, shard_size)
    return [Shard(i, start, min(start + shard_size, n)) for i, start in enumerate(starts)]


def write_shard(
    directory: Path, shard: Shard, features: Features, store: str, identity: str
) -> None:
    """Store features as ``store``; ``identity`` says which model, data and configuration."""
    file = directory / shard.file_name
    file.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        "gradients": features.gradients.astype(store),
        "residuals": features.residuals.astype(np.float32),
    }
    write_atomically(file, save(tensors, metadata={"identity": identity}))


def shard_is_written(directory: Path, shard: Shard, identity: str) -> bool:
    """Whether the shard's file exists, is readable and belongs to this very build."""
    try:
        with safe_open(directory / shard.file_name, framework="numpy") as file:
            return bool(
                file.metadata() == {"identity": identity}
                and file.get_slice("residuals").get_shape() == [len(shard)]
            )
    except (OSError, SafetensorError):
        return False


def read_gradients(directory: Path, shard: Shard) -> NDArray[np.floating]:
    """Raw features ``(rows, m, k)`` as stored."""
    with safe_open(directory / shard.file_name, framework="numpy") as file:
        gradients: NDArray[np.floating] = file.get_tensor("gradients")
        return gradients


def read_residuals(directory: Path, shard: Shard) -> NDArray[np.float32]:
    """Mean residuals r̄ ``(rows,)``."""
    with safe_open(directory / shard.file_name, framework="numpy") as file:
        residuals: NDArray[np.float32] = file.get_tensor("residuals")
        return residuals
