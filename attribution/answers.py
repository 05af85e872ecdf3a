"""From scores to an answer that a person can read: ranks, shares, owners, roll-ups."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attribution.attributor import Attribution
from attribution.metadata import Sample

STATEMENT = "Influence estimate, not proof of copying"
UNKNOWN = "unknown"


def compose_answer(
    attribution: Attribution, samples: Mapping[str, Sample], top_k: int
) -> dict[str, Any]:
    """The JSON-ready answer; ``samples`` gives the considered keys their owners.

    Shares are parts of all considered images' influence, so the roll-ups cover more than the
    listed ``top_k``.  Where scores are signed, only proponents (positive scores) have a share.
    """
    owners = [samples.get(key, Sample(key)) for key in attribution.keys]
    shares = _parts(np.maximum(attribution.scores, 0.0))
    effect, error = _sums_with_errors(attribution.effects)
    order = ranking(attribution)[:top_k]
    spatial = attribution.manifest.config.output == "regions"
    regions = _parts(np.abs(attribution.parts)) if spatial else None
    contributors = [
        {
            "rank": rank,
            "key": attribution.keys[i],
            "text": owners[i].text,
            "creator": owners[i].creator,
            "licence": owners[i].licence,
            "source": owners[i].source,
            "effect": float(effect[i]),
            "std_error": None if error is None else float(error[i]),
            "score": float(attribution.scores[i]),
            "share": float(shares[i]),
            "clip_similarity": float(attribution.clip_similarities[i]),
            "regions": None if regions is None else [float(part) for part in regions[i]],
        }
        for rank, i in enumerate(order, start=1)
    ]
    return {
        "contributors": contributors,
        "listed_share": float(shares[order].sum()),
        "by_creator": _roll_up("creator", [sample.creator for sample in owners], shares),
        "by_licence": _roll_up("licence", [sample.licence for sample in owners], shares),
        "candidates": {
            "strategy": attribution.candidates,
            "considered": len(attribution.keys),
            "corpus": attribution.manifest.samples,
            "exhaustive": len(attribution.keys) == attribution.manifest.samples,
        },
        "rests_on": rests_on(attribution),
        "statement": STATEMENT,
    }


def ranking(attribution: Attribution) -> NDArray[np.int64]:
    """Positions from the highest score down; ties in the order of the index."""
    return np.argsort(-attribution.scores, kind="stable")


def rests_on(attribution: Attribution) -> dict[str, Any]:
    """What is needed to repeat the answer."""
    manifest = attribution.manifest
    return {
        "method": attribution.method,
        **manifest.config.to_dict(),
        "outputs": manifest.outputs,
        "dimension": manifest.dimension,
        "dampings_absolute": manifest.dampings,
        "model_digest": manifest.model_digest,
        "clip_digest": manifest.clip_digest,
        "index_version": manifest.digest,
    }


def _parts(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each value's part of its column's sum; zero where the sum is."""
    total = values.sum(axis=0)
    return np.asarray(np.divide(values, total, out=np.zeros_like(values), where=total > 0))


def _sums_with_errors(
    effects: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """The signed effect Σ_q of each row, and its standard error over the m outputs (m > 1)."""
    m = effects.shape[1]
    if m == 1:
        return effects[:, 0], None
    return effects.sum(axis=1), np.sqrt(m) * effects.std(axis=1, ddof=1)


def _roll_up(
    name: str, owners: list[str | None], shares: NDArray[np.float64]
) -> list[dict[str, Any]]:
    """Shares summed by owner, largest first."""
    totals: defaultdict[str, list[float]] = defaultdict(list)
    for owner, share in zip(owners, shares, strict=True):
        totals[owner or UNKNOWN].append(float(share))
    rows: list[dict[str, Any]] = [
        {name: owner, "share": sum(parts), "images": len(parts)} for owner, parts in totals.items()
    ]
    return sorted(rows, key=lambda row: (-row["share"], row[name]))
