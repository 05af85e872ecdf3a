"""Shards: files of raw features, each written once, so that a killed run loses one at most."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from attribution.features import Batch, FeatureError, FeatureExtractor, Features
from attribution.image_set import ImageSet
from attribution.index.manifest import IndexFormatError, write_atomically
from attribution.index.precision import rounded, widened

Progress = Callable[[float], None]

LONGEST_GRADIENT = 1e18  # its square still is a float32


@dataclass(frozen=True)
class Shard:
    """Samples ``start`` to ``stop`` (exclusive) of the sorted folder."""

    number: int
    start: int
    stop: int

    @property
    def file_name(self) -> str:
        """Where it lies in the directory of its run."""
        return f"shards/{self.number:06d}.safetensors"

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class ShardRows:
    """A shard's features as stored: φ = widened ``directions`` · ``scales``.

    ``directions`` ``(rows, G, m, k)`` are of the store's type: floats with a root mean square of 1,
    so that half precision holds gradients of any size, or integers (``precision.py``).  ``scales``,
    ``lengths`` ‖φ‖ and ``probed_residuals`` are ``(rows, G, m)`` float32, ``residuals``
    ``(rows, G)``.
    """

    directions: torch.Tensor
    scales: torch.Tensor
    lengths: torch.Tensor
    residuals: torch.Tensor
    probed_residuals: torch.Tensor

    @classmethod
    def of_features(cls, features: Features, store: torch.dtype) -> ShardRows:
        """Split features into directions, rounded to ``store``, and scales.

        The scales are those that make the *rounded* rows as long as the true ones.
        """
        true = features.gradients
        lengths = true.double().norm(dim=-1, keepdim=True)
        if float(lengths.max()) > LONGEST_GRADIENT:
            raise FeatureError("gradients are too large to compute with: are the weights sound?")
        unit = true / lengths.float().clamp_min(1e-30) * true.shape[-1] ** 0.5
        directions = rounded(unit, store)
        lengths = lengths[..., 0].float()
        scales = lengths / widened(directions).norm(dim=-1).clamp_min(1e-30)
        return cls(directions, scales, lengths, features.residuals, features.probed_residuals)


class FeatureShards:
    """The features of a folder of images, shard by shard on disk.

    Any number of processes may extract different shards.  What an earlier run of the same model,
    data and configuration has written is not done again.  ``queries`` seeds noise by an image's
    pixels instead of its name.
    """

    def __init__(
        self,
        directory: Path,
        extractor: FeatureExtractor,
        folder: ImageSet,
        *,
        shard_size: int = 64,
        batch_size: int = 16,
        queries: bool = False,
    ) -> None:
        self.directory, self.extractor, self.folder = directory, extractor, folder
        self.batch_size, self.queries = batch_size, queries
        self.shards = plan_shards(len(folder), shard_size)
        # Queries are few: rounding them would save nothing.
        self.store: torch.dtype = (
            torch.float32 if queries else getattr(torch, extractor.config.store)
        )
        facts: list[Any] = [extractor.config.to_dict(), extractor.identity, extractor.settings]
        facts += [queries, folder.content, shard_size]
        facts += [vars(sample) for sample in folder.samples]
        self.identity = hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def extract(self, number: int, on_progress: Progress | None = None) -> None:
        """Compute and write shard ``number``, unless it is there already."""
        report = on_progress or (lambda fraction: None)
        shard = self.shards[number]
        if not self.is_written(shard):
            self._write(shard, ShardRows.of_features(self._features(shard, report), self.store))
        report(1.0)

    def is_written(self, shard: Shard) -> bool:
        """Whether the shard's file exists, is readable and belongs to this very run."""
        try:
            with safe_open(self.directory / shard.file_name, framework="pt") as file:
                return bool(
                    file.metadata() == {"identity": self.identity}
                    and file.get_slice("residuals").get_shape()[0] == len(shard)
                )
        except (OSError, SafetensorError):
            return False

    def read(self, shard: Shard) -> ShardRows:
        """The rows of a written shard."""
        with self._opened(shard) as file:
            return ShardRows(**{name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118

    def read_group(self, shard: Shard, group: int) -> torch.Tensor:
        """φ of one group of a written shard: float32 ``(rows, m, k)``."""
        with self._opened(shard) as file:
            directions = widened(file.get_slice("directions")[:, group])
            scales = file.get_slice("scales")[:, group]
        gradients: torch.Tensor = directions * scales[..., None]
        return gradients

    def _opened(self, shard: Shard) -> Any:
        file: Any = safe_open(self.directory / shard.file_name, framework="pt")
        if file.metadata() != {"identity": self.identity}:
            raise IndexFormatError(f"{self.directory / shard.file_name} is of another run")
        return file

    def _write(self, shard: Shard, rows: ShardRows) -> None:
        file = self.directory / shard.file_name
        file.parent.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor.contiguous() for name, tensor in vars(rows).items()}
        write_atomically(file, save(tensors, metadata={"identity": self.identity}))

    def _features(self, shard: Shard, report: Progress) -> Features:
        parts: list[Features] = []
        for start in range(shard.start, shard.stop, self.batch_size):
            rows = range(start, min(start + self.batch_size, shard.stop))

            def batch_progress(
                fraction: float, before: int = start - shard.start, count: int = len(rows)
            ) -> None:
                report((before + fraction * count) / len(shard))

            parts.append(self.extractor.extract(self._batch(rows), batch_progress))
        return Features(
            torch.cat([part.gradients for part in parts]),
            torch.cat([part.residuals for part in parts]),
            torch.cat([part.probed_residuals for part in parts]),
        )

    def _batch(self, rows: range) -> Batch:
        samples = [self.folder.samples[i] for i in rows]
        images = [self.folder.image(i) for i in rows]
        return Batch(
            keys=[query_key(image) for image in images]
            if self.queries
            else [sample.key for sample in samples],
            images=images,
            captions=[sample.text for sample in samples],
            seeds=[sample.seed for sample in samples],
            names=[sample.key for sample in samples],
        )


def plan_shards(n: int, shard_size: int) -> list[Shard]:
    """Cut n samples into shards of ``shard_size``, the last one shorter."""
    if n < 1 or shard_size < 1:
        raise ValueError(f"cannot cut {n} samples into shards of {shard_size}")
    starts = range(0, n, shard_size)
    return [Shard(i, start, min(start + shard_size, n)) for i, start in enumerate(starts)]


def query_key(image: Image.Image) -> str:
    """Seeds the query's noise: the same pixels get the same noise, under whatever name."""
    return f"query:{hashlib.sha256(image.tobytes()).hexdigest()}"
