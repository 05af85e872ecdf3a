"""Searching an index version: products of a query with training images, and CLIP neighbours."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file

from attribution.index.build import CLIP, DIRECTIONS, FACTS, KERNELS, SAMPLES
from attribution.index.manifest import IndexFormatError, Manifest
from attribution.index.precision import widened
from attribution.methods.method import TrainingRows

Array = NDArray[np.float64]

# Numbers that are widened to float32 at a time: 2 MB stay in the cores' caches.
BLOCK_NUMBERS = 2**19


class Index:
    """An opened version; its large files are mapped, so opening costs nothing with n."""

    def __init__(self, directory: Path, *, verify: bool = False) -> None:
        self.directory = directory
        self.manifest = Manifest.read(directory)
        if verify:
            self.manifest.verify(directory)
        self.keys: list[str] = json.loads((directory / SAMPLES).read_text(encoding="utf-8"))
        n, groups = self.manifest.samples, self.manifest.groups
        m, k = self.manifest.outputs, self.manifest.dimension
        self._directions = _mapped(
            directory / DIRECTIONS, getattr(torch, self.manifest.config.store), (n, groups * m, k)
        )
        self._facts = load_file(directory / FACTS)
        clip = directory / CLIP
        self._clip = faiss.read_index(str(clip), faiss.IO_FLAG_MMAP_IFC) if clip.is_file() else None

    def __len__(self) -> int:
        return self.manifest.samples

    def facts(self, rows: slice | NDArray[np.int64]) -> TrainingRows:
        """What is known of some training images beside their directions."""
        nothing = torch.zeros_like(self._facts["lengths"][rows])

        def fact(name: str) -> Array:
            known = self._facts.get(name)
            values: Array = (nothing if known is None else known[rows]).double().numpy()
            return values

        return TrainingRows(
            lengths=fact("lengths"),
            leverages=fact("leverages"),
            solved_lengths=fact("solved_lengths"),
            residuals=fact("residuals"),
            probed_residuals=fact("probed_residuals"),
            hats=fact("hats") if "hats" in self._facts else None,
        )

    def precondition(self, gradients: torch.Tensor) -> torch.Tensor:
        """H⁻¹φ of queries ``(Q, G, m, k)``, along the training set's span.

        What lies off the span meets no training image, and leaving it out loses no digits.
        """
        if not self.manifest.dampings:
            raise IndexFormatError(f"{self.directory} holds no kernel")
        solved = torch.empty_like(gradients)
        with safe_open(self.directory / KERNELS, framework="pt") as kernels:
            for group, damping in enumerate(self.manifest.dampings):
                vectors = kernels.get_tensor(f"vectors/{group}")
                weights = 1 / (kernels.get_tensor(f"values/{group}") + damping)
                inside = gradients[:, group] @ vectors
                solved[:, group] = (inside.double() * weights).float() @ vectors.T
        return solved

    def products(
        self,
        queries: torch.Tensor,
        rows: slice | NDArray[np.int64] = slice(None),
        *,
        all_pairs: bool = False,
    ) -> Array:
        """Inner products of queries ``(Q, G, m, k)`` with the features of training images.

        ``(Q, b, G, m)``: output q with output q; with ``all_pairs`` ``(Q, b, G, m, m)``: the
        query's q with the training image's q'.
        """
        number, groups, m, k = queries.shape
        # What a row's parts meet: each output its own, or all of one group's outputs.
        parts, columns = (groups, number * m) if all_pairs else (groups * m, number)
        sides = queries.permute(1, 3, 0, 2) if all_pairs else queries.permute(1, 2, 3, 0)
        sides = sides.reshape(parts, k, columns).contiguous()
        count = len(range(*rows.indices(len(self)))) if isinstance(rows, slice) else len(rows)
        each = groups * m // parts  # of a row's vectors that meet the same side
        found = torch.empty((parts, count * each, columns))
        for start, block in self._widened(rows, count):
            by_part = block.reshape(len(block), parts, each, k).transpose(0, 1)
            where = slice(start * each, (start + len(block)) * each)
            torch.bmm(by_part.reshape(parts, -1, k), sides, out=found[:, where])
        scales = self._facts["scales"][rows].double()  # (b, G, m)
        if all_pairs:
            products = found.reshape(groups, count, m, number, m).permute(3, 1, 0, 4, 2).double()
            return np.asarray((products * scales[..., None, :]).numpy())
        products = found.reshape(groups, m, count, number).permute(3, 2, 0, 1).double()
        return np.asarray((products * scales).numpy())

    def _widened(
        self, rows: slice | NDArray[np.int64], count: int
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """The directions of some rows in float32, in blocks, with where each block begins."""
        chosen = self._directions[rows] if isinstance(rows, slice) else self._directions
        picked = None if isinstance(rows, slice) else torch.from_numpy(rows)
        height = max(1, min(count, BLOCK_NUMBERS // chosen[0].numel()))
        wide = torch.empty((height, *chosen.shape[1:]))
        for start in range(0, count, height):
            stop = min(start + height, count)
            block = chosen[start:stop] if picked is None else chosen[picked[start:stop]]
            yield start, widened(block, out=wide[: stop - start])

    def clip_similarities(
        self, embedding: NDArray[np.float32], rows: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Cosine of the training images ``rows`` with an embedding ``(d,)``: ``(rows,)``."""
        embeddings = self._candidates().reconstruct_batch(rows)
        return np.asarray(embeddings @ embedding, dtype=np.float64)

    def clip_cosines(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Cosines of the training images ``rows`` with each other: ``(rows, rows)``."""
        embeddings = self._candidates().reconstruct_batch(rows)
        return np.asarray(embeddings @ embeddings.T, dtype=np.float64)

    def nearest(self, embedding: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """Rows of the ``count`` training images most similar to an embedding, best first."""
        _, ids = self._candidates().search(embedding[None], min(count, len(self)))
        return np.asarray(ids[0], dtype=np.int64)

    def _candidates(self) -> faiss.Index:
        if self._clip is None:
            raise IndexFormatError(f"{self.directory} was built without CLIP embeddings")
        return self._clip


def _mapped(path: Path, dtype: torch.dtype, shape: Sequence[int]) -> torch.Tensor:
    size = int(np.prod(shape))
    if not path.is_file() or path.stat().st_size != size * dtype.itemsize:
        raise IndexFormatError(f"{path} is missing or damaged; rebuild the index")
    return torch.from_file(str(path), shared=False, size=size, dtype=dtype).reshape(*shape)
