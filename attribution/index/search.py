"""Searching an index version: products of a query with training images, and CLIP neighbours."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file

from attribution.index.build import CLIP, DIRECTIONS, FACTS, KERNELS, SAMPLES
from attribution.index.manifest import IndexFormatError, Manifest
from attribution.methods.method import TrainingRows

Array = NDArray[np.float64]

# Numbers of a block that is widened to float32 at a time: it stays in a core's cache.
BLOCK_NUMBERS = 2**18


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
        shape = self._facts["lengths"].shape
        nothing = torch.zeros(shape)

        def fact(name: str) -> Array:
            values: Array = self._facts.get(name, nothing)[rows].double().numpy()
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
        chosen = self._directions[rows] if isinstance(rows, slice) else None
        wanted = torch.from_numpy(rows) if not isinstance(rows, slice) else None
        count = len(chosen) if chosen is not None else len(rows)  # type: ignore[arg-type]
        found = torch.empty((groups * m, count, number * (m if all_pairs else 1)))
        # Column j of a block meets these columns: the same output, or all of the same group.
        sides = [
            queries[:, j // m].flatten(0, 1).T.contiguous()
            if all_pairs
            else queries[:, j // m, j % m].T.contiguous()
            for j in range(groups * m)
        ]
        height = max(1, BLOCK_NUMBERS // (groups * m * k))
        widened = torch.empty((height, groups * m, k))
        for start in range(0, count, height):
            stop = min(start + height, count)
            block = widened[: stop - start]
            if chosen is not None:
                block.copy_(chosen[start:stop])
            else:
                assert wanted is not None
                block.copy_(self._directions[wanted[start:stop]])
            for j, side in enumerate(sides):
                torch.mm(block[:, j], side, out=found[j, start:stop])
        scales = self._facts["lengths"][rows].flatten(1).T.double() / k**0.5  # (G·m, b)
        products = found.double() * scales[..., None]
        if all_pairs:
            products = products.reshape(groups, m, count, number, m)
            return np.asarray(products.permute(3, 2, 0, 4, 1).numpy())
        return np.asarray(products.reshape(groups, m, count, number).permute(3, 2, 0, 1).numpy())

    def clip_similarities(
        self, embedding: NDArray[np.float32], rows: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Cosine of the training images ``rows`` with an embedding ``(d,)``: ``(rows,)``."""
        embeddings = self._candidates().reconstruct_batch(rows)
        return np.asarray(embeddings @ embedding, dtype=np.float64)

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
