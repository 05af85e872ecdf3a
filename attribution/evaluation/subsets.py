"""Which training images each retraining sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from attribution.errors import InputError
from attribution.image_data.sample import Sample

Stratum = Literal["none", "folder", "text", "creator", "licence"]


class SubsetError(InputError):
    """No subsets of this kind can be drawn; the message says why."""


def strata(samples: Sequence[Sample], by: Stratum) -> list[str]:
    """What each sample is counted under: its folder, or a field of its metadata."""
    if by == "none":
        return [""] * len(samples)
    if by == "folder":
        return [sample.key.rpartition("/")[0] for sample in samples]
    return [str(getattr(sample, by) or "") for sample in samples]


def draw_subsets(
    labels: Sequence[str], count: int, fraction: float, seed: int
) -> NDArray[np.bool_]:
    """``count`` random subsets ``(M, n)`` that hold ``fraction`` of each stratum, rounded.

    Subset j depends on ``seed`` and j alone, so that more of them leave the first as they are.
    """
    if not 0 < fraction < 1:
        raise SubsetError(f"the fraction must lie between 0 and 1, not {fraction}")
    if count < 1:
        raise SubsetError(f"at least one subset is needed, not {count}")
    names = np.asarray(labels)
    members = np.zeros((count, len(labels)), dtype=np.bool_)
    for j in range(count):
        rng = np.random.default_rng([seed, j])
        for name in sorted(set(labels)):
            rows = np.flatnonzero(names == name)
            members[j, rng.permutation(rows)[: round(fraction * len(rows))]] = True
    if not members.any(axis=1).all() or members.all(axis=1).any():
        raise SubsetError(f"a fraction of {fraction} leaves a subset empty, or leaves nothing out")
    return members


def leave_groups_out(labels: Sequence[str]) -> tuple[list[str], NDArray[np.bool_]]:
    """The groups, sorted, and for each the subset ``(groups, n)`` of all other images."""
    groups = sorted(set(labels))
    if len(groups) < 2:
        raise SubsetError("there is only one group: without it nothing is left to train on")
    names = np.asarray(labels)
    return groups, np.stack([names != group for group in groups])
