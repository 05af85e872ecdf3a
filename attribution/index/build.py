"""Building an index: shards of features, then the kernel, then the files that are searched."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import faiss
import torch
from safetensors.torch import save

from attribution.embeddings import ClipEmbedder
from attribution.features import FeatureExtractor
from attribution.image_set import ImageSet
from attribution.index.config import REPRESENTATIONS
from attribution.index.manifest import (
    IndexFormatError,
    Manifest,
    atomic_file,
    file_digest,
    write_atomically,
)
from attribution.index.shards import FeatureShards
from attribution.kernel import Kernel

Progress = Callable[[float], None]

DIRECTIONS = "directions.bin"
FACTS = "facts.safetensors"
KERNELS = "kernels.safetensors"
CLIP = "clip.faiss"
SAMPLES = "samples.json"


class IndexBuilder:
    """One build: any number of processes may extract its shards, one of them finalises.

    Each step writes whole files, and skips what an earlier run of the same build has written.
    """

    def __init__(
        self,
        directory: Path,
        extractor: FeatureExtractor,
        folder: ImageSet,
        *,
        shard_size: int = 64,
        batch_size: int = 16,
    ) -> None:
        self.directory = directory
        self.extractor = extractor
        self.config = extractor.config
        self.folder = folder
        self.rows = FeatureShards(
            directory, extractor, folder, shard_size=shard_size, batch_size=batch_size
        )
        self.shards = self.rows.shards

    def extract(self, number: int, on_progress: Progress | None = None) -> None:
        """Compute and write shard ``number``, unless it or the whole index is there already."""
        if self.finished() is None:
            self.rows.extract(number, on_progress)
        elif on_progress:
            on_progress(1.0)

    def finished(self) -> Manifest | None:
        """The manifest of this very build, if it has ended."""
        try:
            manifest = Manifest.read(self.directory)
        except IndexFormatError:
            return None
        return manifest if manifest.identity == self.rows.identity else None

    def finalise(
        self,
        clip: ClipEmbedder | None,
        on_progress: Progress | None = None,
        *,
        with_kernel: bool = True,
    ) -> Manifest:
        """Factorise the kernel over all shards and write what a query reads; manifest last.

        The shards go once their rows are in the index.  ``clip`` serves candidates; without it
        every question goes through everything.  Methods without a kernel do without one here too.
        """
        report = on_progress or (lambda fraction: None)
        manifest = self.finished() or self._write(clip, report, with_kernel)
        shutil.rmtree(self.directory / "shards", ignore_errors=True)
        report(1.0)
        return manifest

    def _write(self, clip: ClipEmbedder | None, report: Progress, with_kernel: bool) -> Manifest:
        missing = [shard.number for shard in self.shards if not self.rows.is_written(shard)]
        if missing:
            raise ValueError(f"shards {missing} have not been extracted")
        groups, m, k = self.extractor.shape
        facts = self._write_directions()
        report(0.1)
        kernels: list[Kernel] = []
        dampings: list[float] = []
        if with_kernel and self.config.output not in REPRESENTATIONS:
            for group in range(groups):
                kernel = Kernel.of_rows(partial(self._blocks, group), len(self.folder) * m, k)
                kernels.append(kernel)
                dampings.append(self._damping(kernel))
                report(0.1 + 0.5 * (group + 1) / groups)
            facts |= self._kernel_facts(kernels, dampings)
            write_atomically(self.directory / KERNELS, save(_kernel_tensors(kernels)))
        report(0.8)
        write_atomically(self.directory / FACTS, save(facts))
        if clip is not None:
            self._write_clip(clip)
        keys = [sample.key for sample in self.folder.samples]
        write_atomically(self.directory / SAMPLES, json.dumps(keys).encode())
        names = [DIRECTIONS, FACTS, SAMPLES]
        names += [KERNELS] if kernels else []
        names += [CLIP] if clip is not None else []
        manifest = Manifest(
            config=self.config,
            identity=self.rows.identity,
            model_digest=self.extractor.identity,
            clip_digest=clip.digest if clip is not None else "",
            samples=len(self.folder),
            groups=groups,
            outputs=m,
            dimension=k,
            dampings=dampings,
            degrees_of_freedom=[
                kernel.degrees_of_freedom(damping)
                for kernel, damping in zip(kernels, dampings, strict=True)
            ],
            files={name: file_digest(self.directory / name) for name in names},
        )
        manifest.write(self.directory)
        return manifest

    def _blocks(self, group: int) -> Iterator[torch.Tensor]:
        """Every row φ_q(i) of one group's joint kernel, shard by shard: ``(rows·m, k)``."""
        for shard in self.shards:
            yield self.rows.read_group(shard, group).flatten(0, 1)

    def _damping(self, kernel: Kernel) -> float:
        if self.config.damping_rule == "directions":
            m = self.extractor.shape[1]
            return kernel.damping_leaving(self.config.damping * m, len(self.folder) * m)
        if self.config.damping_rule == "absolute":
            return self.config.damping
        return kernel.absolute(self.config.damping)

    def _write_directions(self) -> dict[str, torch.Tensor]:
        """Join the shards' directions into one file; return the small facts of all rows."""
        n, (groups, m, _) = len(self.folder), self.extractor.shape
        facts = {
            "scales": torch.empty(n, groups, m),
            "lengths": torch.empty(n, groups, m),
            "residuals": torch.empty(n, groups),
            "probed_residuals": torch.empty(n, groups, m),
        }
        with atomic_file(self.directory / DIRECTIONS) as file:
            for shard in self.shards:
                rows = self.rows.read(shard)
                rows.directions.view(torch.uint8).numpy().tofile(file)
                for name, fact in facts.items():
                    fact[shard.start : shard.stop] = getattr(rows, name)
        return facts

    def _kernel_facts(
        self, kernels: list[Kernel], dampings: list[float]
    ) -> dict[str, torch.Tensor]:
        """Leverages, ‖H⁻¹φ‖ and, where timesteps are apart, the hat matrices of every row."""
        groups, m, _ = self.extractor.shape
        n = len(self.folder)
        # Filled in place: small tensors kept from every block would scatter over the heap.  In
        # float64, because 1 - h is what counts, and h may be near 1.
        facts = {
            "leverages": torch.empty(n, groups, m, dtype=torch.float64),
            "solved_lengths": torch.empty(n, groups, m, dtype=torch.float64),
        }
        if not self.config.average_timesteps:
            facts["hats"] = torch.empty(n, groups, m, m, dtype=torch.float64)
        for group, (kernel, damping) in enumerate(zip(kernels, dampings, strict=True)):
            weights = 1 / (kernel.values + damping)
            for shard, block in zip(self.shards, self._blocks(group), strict=True):
                inside = kernel.inside(block).reshape(len(shard), m, -1)
                rows = slice(shard.start, shard.stop)
                facts["leverages"][rows, group] = inside**2 @ weights
                facts["solved_lengths"][rows, group] = (inside * weights).norm(dim=2)
                if "hats" in facts:
                    facts["hats"][rows, group] = (inside * weights) @ inside.transpose(1, 2)
        return facts

    def _write_clip(self, clip: ClipEmbedder) -> None:
        index = faiss.IndexFlatIP(clip.dimension)
        for start in range(0, len(self.folder), clip.batch_size):
            rows = range(start, min(start + clip.batch_size, len(self.folder)))
            index.add(clip.embed_images([self.folder.image(i) for i in rows]))
        write_atomically(self.directory / CLIP, faiss.serialize_index(index).tobytes())


def _kernel_tensors(kernels: list[Kernel]) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    for group, kernel in enumerate(kernels):
        tensors[f"vectors/{group}"] = kernel.vectors.float().contiguous()
        tensors[f"values/{group}"] = kernel.values.contiguous()
    return tensors
