"""The scores of many queries at once: a matrix, in blocks that fit into memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from attribution.attributor import must_be_finite, query_side
from attribution.index.search import Index
from attribution.index.shards import FeatureShards
from attribution.methods.method import Method

ROWS_AT_ONCE = 4096
PRODUCTS_AT_ONCE = 2**24  # 128 MB in float64


def score_matrix(
    index: Index,
    method: Method,
    queries: FeatureShards,
    on_progress: Callable[[float], None] | None = None,
) -> NDArray[np.float32]:
    """Scores ``(Q, n)`` of all queries, whose shards are written, and all training images."""
    n, m = len(index), index.manifest.outputs
    scores = np.empty((len(queries.folder), n), dtype=np.float32)
    per_pair = index.manifest.groups * m * (m if method.all_pairs else 1)
    height = max(1, min(ROWS_AT_ONCE, PRODUCTS_AT_ONCE // per_pair))
    together = max(1, PRODUCTS_AT_ONCE // (per_pair * min(height, n)))
    for shard in queries.shards:
        groups = range(index.manifest.groups)
        gradients = torch.stack([queries.read_group(shard, group) for group in groups], dim=1)
        side = query_side(method, index, gradients)
        lengths = gradients.double().norm(dim=-1).numpy()
        for start in range(0, n, height):
            rows = slice(start, min(start + height, n))
            facts = index.facts(rows)
            for first in range(0, len(shard), together):
                asked = slice(first, min(first + together, len(shard)))
                products = index.products(side[asked], rows, all_pairs=method.all_pairs)
                effects = method.effects(products, facts, lengths[asked])
                where = slice(shard.start + asked.start, shard.start + asked.stop)
                scores[where, rows] = method.score(effects, facts)
        if on_progress:
            on_progress(shard.stop / len(queries.folder))
    must_be_finite(scores)
    return scores
