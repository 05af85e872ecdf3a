"""From scores to an answer that a person can read: ranks, shares, owners, roll-ups."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attribution.attributor import Attribution
from attribution.image_data.sample import Sample

STATEMENT = "Influence estimate, not proof of copying"
UNKNOWN = "unknown"
LIBRARIES = ("headwater", "torch", "diffusers", "numpy", "faiss-cpu", "open-clip-torch")
ALIKE = 0.97  # cosine of CLIP embeddings above which images are called near-duplicates
NOTICEABLE = 2.0  # standard errors that an effect must be away from zero


def compose_answer(
    attribution: Attribution, samples: Mapping[str, Sample], top_k: int
) -> dict[str, Any]:
    """The JSON-ready answer; ``samples`` gives the considered keys their owners.

    Shares are parts of all considered images' influence, so the roll-ups cover more than the
    listed ``top_k``.  Where scores are signed, only proponents (positive scores) have a share.
    ``unattributed_share`` is held by images whose effect is within two standard errors of none:
    there is influence, and no telling whose.  The errors of roll-ups are over the outputs too.
    """
    owners = [samples.get(key, Sample(key)) for key in attribution.keys]
    shares = _parts(np.maximum(attribution.scores, 0.0))
    effect, error = _sums_with_errors(attribution.effects)
    order = ranking(attribution)[:top_k]
    left_out = _shares_without_each(attribution)
    spatial = attribution.manifest.config.output == "regions"
    regions = _parts(np.abs(attribution.parts)) if spatial else None
    contributors = [
        {
            "rank": rank,
            "key": attribution.keys[i],
            "text": owners[i].text,
            "creator": owners[i].creator,
            "licence": owners[i].licence,
            "creator_uri": owners[i].creator_uri,
            "source": owners[i].source,
            "opt_out": owners[i].opt_out,
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
        "unattributed_share": None
        if error is None
        else float(shares[np.abs(effect) < NOTICEABLE * error].sum()),
        "by_creator": _roll_up("creator", [s.creator for s in owners], shares, left_out),
        "by_licence": _roll_up("licence", [s.licence for s in owners], shares, left_out),
        "opted_out": _held_by([s.opt_out is not None for s in owners], shares),
        "near_duplicates": near_duplicates(attribution, order),
        "candidates": considered(attribution),
        "rests_on": rests_on(attribution),
        "statement": STATEMENT,
    }


def considered(attribution: Attribution) -> dict[str, Any]:
    """How many training images were scored, of how many, and how they were chosen."""
    return {
        "strategy": attribution.candidates,
        "considered": len(attribution.keys),
        "corpus": attribution.manifest.samples,
        "exhaustive": len(attribution.keys) == attribution.manifest.samples,
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
        "libraries": {name: version(name) for name in LIBRARIES},
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


def _shares_without_each(attribution: Attribution) -> NDArray[np.float64] | None:
    """Shares with one output left out, ``(m, c)``: what a jackknife over outputs needs (m > 1)."""
    m = attribution.parts.shape[1]
    if m == 1:
        return None
    rest = attribution.scores[:, None] - attribution.parts
    return _parts(np.maximum(rest, 0.0)).T


def _roll_up(
    name: str,
    owners: list[str | None],
    shares: NDArray[np.float64],
    left_out: NDArray[np.float64] | None,
) -> list[dict[str, Any]]:
    """Shares summed by owner, largest first, with the jackknife's standard errors."""
    members: defaultdict[str, list[int]] = defaultdict(list)
    for i, owner in enumerate(owners):
        members[owner or UNKNOWN].append(i)
    rows: list[dict[str, Any]] = [
        {
            name: owner,
            "share": float(shares[images].sum()),
            "std_error": None if left_out is None else _jackknife(left_out[:, images].sum(axis=1)),
            "images": len(images),
        }
        for owner, images in members.items()
    ]
    return sorted(rows, key=lambda row: (-row["share"], row[name]))


def _jackknife(left_out: NDArray[np.float64]) -> float:
    """The standard error of a figure from its values with one of m parts left out."""
    m = len(left_out)
    return float(np.sqrt((m - 1) / m * ((left_out - left_out.mean()) ** 2).sum()))


def _held_by(chosen: list[bool], shares: NDArray[np.float64]) -> dict[str, Any]:
    return {"share": float(shares[np.array(chosen, dtype=bool)].sum()), "images": sum(chosen)}


def near_duplicates(attribution: Attribution, listed: NDArray[np.int64]) -> list[list[str]]:
    """Groups of listed images that CLIP can hardly tell apart: a share is often theirs together."""
    alike = attribution.cosines(listed) > ALIKE
    groups, left = [], list(range(len(listed)))
    while left:
        group, waiting = [], [left.pop(0)]
        while waiting:
            one = waiting.pop()
            group.append(one)
            waiting += (found := [other for other in left if alike[one, other]])
            left = [other for other in left if other not in found]
        if len(group) > 1:
            groups.append([attribution.keys[listed[i]] for i in sorted(group)])
    return groups
