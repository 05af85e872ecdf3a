"""Building an index: shards of features, then the kernel, then the files that are searched."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save

from attribution.denoisers import Denoiser
from attribution.embeddings import ClipEmbedder
from attribution.features import FeatureExtractor, Features
from attribution.image_folder import ImageFolder
from attribution.index.config import IndexConfig
from attribution.index.manifest import Manifest, file_digest, write_atomically
from attribution.index.shards import (
    Shard,
    plan_shards,
    read_gradients,
    read_residuals,
    shard_is_written,
    write_shard,
)
from attribution.kernel import Kernel

Progress = Callable[[float], None]

INFLUENCE = "influence.faiss"
CLIP = "clip.faiss"
SAMPLES = "samples.json"
RESIDUALS = "residuals.safetensors"


class IndexBuilder:
    """One build: any number of processes may extract its shards, one of them finalises.

    Each step writes whole files, and skips what an earlier run of the same build has written.
    """

    def __init__(
        self,
        directory: Path,
        denoiser: Denoiser,
        folder: ImageFolder,
        config: IndexConfig,
        *,
        shard_size: int = 64,
        batch_size: int = 16,
    ) -> None:
        self.directory = directory
        self.denoiser = denoiser
        self.folder = folder
        self.config = config
        self.batch_size = batch_size
        self.shards = plan_shards(len(folder), shard_size)
        self.extractor = FeatureExtractor(denoiser, config)
        self.identity = hashlib.sha256(
            json.dumps(
                [config.to_dict(), denoiser.digest, [vars(sample) for sample in folder.samples]]
            ).encode()
        ).hexdigest()

    def extract(self, number: int, on_progress: Progress | None = None) -> None:
        """Compute and write shard ``number``, unless it is there already."""
        shard = self.shards[number]
        if not shard_is_written(self.directory, shard, self.identity):
            features = self._features(shard, on_progress)
            write_shard(self.directory, shard, features, self.config.store, self.identity)
        if on_progress:
            on_progress(1.0)

    def _features(self, shard: Shard, on_progress: Progress | None) -> Features:
        parts = []
        for start in range(shard.start, shard.stop, self.batch_size):
            rows = range(start, min(start + self.batch_size, shard.stop))
            samples = [self.folder.samples[i] for i in rows]

            def report(
                fraction: float, before: int = start - shard.start, count: int = len(rows)
            ) -> None:
                if on_progress:
                    on_progress((before + fraction * count) / len(shard))

            parts.append(
                self.extractor.extract(
                    [sample.key for sample in samples],
                    torch.stack([self.denoiser.encode(self.folder.image(i)) for i in rows]),
                    self.denoiser.condition([sample.text for sample in samples]),
                    report,
                )
            )
        return Features(
            np.concatenate([part.gradients for part in parts]),
            np.concatenate([part.residuals for part in parts]),
        )

    def finalise(self, clip: ClipEmbedder, on_progress: Progress | None = None) -> Manifest:
        """Factorise the kernel over all shards and write what a query reads; manifest last."""
        report = on_progress or (lambda fraction: None)
        missing = [
            shard.number
            for shard in self.shards
            if not shard_is_written(self.directory, shard, self.identity)
        ]
        if missing:
            raise ValueError(f"shards {missing} have not been extracted")
        m, k = self.extractor.output.count, self.extractor.projector.size
        kernel = Kernel.of_rows(self._rows, len(self.folder) * m, k)
        report(0.4)
        scale = self._write_influence(kernel, m, k)
        report(0.7)
        residuals = np.concatenate([read_residuals(self.directory, s) for s in self.shards])
        write_atomically(self.directory / RESIDUALS, save({"residuals": residuals}))
        self._write_clip(clip)
        keys = [sample.key for sample in self.folder.samples]
        write_atomically(self.directory / SAMPLES, json.dumps(keys).encode())
        names = [INFLUENCE, CLIP, SAMPLES, RESIDUALS, *(s.file_name for s in self.shards)]
        manifest = Manifest(
            config=self.config,
            model_digest=self.denoiser.digest,
            clip_digest=clip.digest,
            samples=len(self.folder),
            outputs=m,
            dimension=k,
            damping=kernel.absolute(self.config.damping),
            degrees_of_freedom=kernel.degrees_of_freedom(self.config.damping),
            scale=scale,
            files={name: file_digest(self.directory / name) for name in names},
        )
        manifest.write(self.directory)
        report(1.0)
        return manifest

    def _rows(self) -> Iterator[NDArray[np.floating]]:
        """Every row φ_q(i) of the joint kernel, shard by shard: ``(rows·m, k)``."""
        for shard in self.shards:
            gradients = read_gradients(self.directory, shard)
            yield gradients.reshape(-1, gradients.shape[-1])

    def _write_influence(self, kernel: Kernel, m: int, k: int) -> float:
        """Write the FAISS file of rows H⁻¹φ_q(i)/(1-h), q side by side; return their scale.

        Rows are divided by about their root mean square, so that half precision holds them well;
        a power of two, so that the division itself rounds nothing.
        """
        index = _empty_index(m * k, self.config.store)
        scale = 0.0
        for block in self._rows():
            rows = kernel.precondition(block, self.config.damping)
            if self.config.output != "square":  # D-TRAK has no leave-one-out correction (Eq. 6)
                rows /= 1 - kernel.leverages(block, self.config.damping)[:, None]
            scale = scale or 2.0 ** round(np.log2(np.sqrt((rows**2).mean())))
            index.add((rows / scale).reshape(-1, m * k).astype(np.float32))
        _write_faiss(index, self.directory / INFLUENCE)
        return scale

    def _write_clip(self, clip: ClipEmbedder) -> None:
        embeddings = clip.embed_images(self.folder.image(i) for i in range(len(self.folder)))
        index = faiss.IndexFlatIP(embeddings.shape[1])
        index.add(embeddings)
        _write_faiss(index, self.directory / CLIP)


def _empty_index(dimension: int, store: str) -> faiss.Index:
    if store == "float32":
        return faiss.IndexFlatIP(dimension)
    half = faiss.ScalarQuantizer.QT_fp16
    return faiss.IndexScalarQuantizer(dimension, half, faiss.METRIC_INNER_PRODUCT)


def _write_faiss(index: faiss.Index, path: Path) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    faiss.write_index(index, str(temporary))
    temporary.replace(path)
