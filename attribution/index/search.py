"""Searching an index version: effects of training images on a query, and CLIP neighbours."""

from __future__ import annotations

import json
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from attribution.index.build import CLIP, INFLUENCE, RESIDUALS, SAMPLES
from attribution.index.manifest import Manifest


class Index:
    """An opened version; its FAISS files are mapped, so opening costs nothing with n."""

    def __init__(self, directory: Path, *, verify: bool = False) -> None:
        self.manifest = Manifest.read(directory)
        if verify:
            self.manifest.verify(directory)
        self.keys: list[str] = json.loads((directory / SAMPLES).read_text(encoding="utf-8"))
        self.residuals: NDArray[np.float32] = load_file(directory / RESIDUALS)["residuals"]
        self._influence = _mapped(directory / INFLUENCE)
        self._clip = _mapped(directory / CLIP)

    def __len__(self) -> int:
        return self.manifest.samples

    def effects(self, query: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """effect[i, q] of the training images ``rows`` on a query's φ ``(m, k)``: ``(rows, m)``.

        A query vector that is φ_q in the q-th part and zero elsewhere meets only region q's part
        of the stored rows, so one FAISS search of m vectors gives all m effects.
        """
        m, k = self.manifest.outputs, self.manifest.dimension
        masked = np.zeros((m, m, k), dtype=np.float32)
        masked[np.arange(m), np.arange(m)] = query
        products, ids = _search(self._influence, masked.reshape(m, m * k), rows, len(self))
        effects = np.empty((len(self), m))
        for q in range(m):
            effects[ids[q], q] = products[q]
        return np.asarray(effects[rows] * self.manifest.scale)

    def clip_similarities(
        self, embedding: NDArray[np.float32], rows: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Cosine of the training images ``rows`` with an embedding ``(d,)``: ``(rows,)``."""
        products, ids = _search(self._clip, embedding[None], rows, len(self))
        similarities = np.empty(len(self))
        similarities[ids[0]] = products[0]
        return similarities[rows]

    def nearest(self, embedding: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """Rows of the ``count`` training images most similar to an embedding, best first."""
        _, ids = self._clip.search(embedding[None], min(count, len(self)))
        return np.asarray(ids[0], dtype=np.int64)


def _mapped(path: Path) -> faiss.Index:
    return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)


def _search(
    index: faiss.Index, queries: NDArray[np.float32], rows: NDArray[np.int64], n: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Inner products with exactly the listed rows: ``(q, rows)`` and their ids."""
    if len(rows) == n:
        products, ids = index.search(queries, n)
    else:
        selector = faiss.IDSelectorBatch(rows)
        parameters = faiss.SearchParameters(sel=selector)  # type: ignore[call-arg]  # faiss adds it
        products, ids = index.search(queries, len(rows), params=parameters)
    return products, ids
