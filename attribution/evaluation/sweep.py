"""One method's scores under many λ: one factorisation, and a product for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from attribution.features import Features
from attribution.index.config import IndexConfig
from attribution.kernel import Kernel
from attribution.methods.method import Method, TrainingRows

Array = NDArray[np.float64]

BLOCK = 512  # training images at a time


@dataclass(frozen=True)
class Coordinates:
    """Queries along the eigenvectors, ``(Q, m, r)`` for each kernel, and ‖φ‖ ``(Q, G, m)``."""

    inside: list[torch.Tensor]
    lengths: Array


class FactorisedFeatures:
    """Training features in the coordinates of their own kernels' eigenvectors.

    Along them H⁻¹ is a division by σ + λ, and what lies off them meets no training image.
    """

    def __init__(self, training: Features) -> None:
        n, groups, m, k = training.gradients.shape
        self.training = training
        self.lengths = training.gradients.double().norm(dim=-1)
        self.kernels = [
            Kernel.of_rows(partial(self._blocks, group), n * m, k) for group in range(groups)
        ]
        self.inside = [
            kernel.inside(rows).reshape(n, m, -1)
            for group, kernel in enumerate(self.kernels)
            for rows in self._blocks(group)
        ]

    def relative_dampings(self, relative: float) -> list[float]:
        """λ of each kernel, in units of its mean eigenvalue."""
        return [kernel.absolute(relative) for kernel in self.kernels]

    def configured_dampings(self, config: IndexConfig) -> list[float]:
        """λ of each kernel, as an index of this configuration would have it."""
        if config.damping_rule == "directions":
            n, _, m = self.lengths.shape
            return [kernel.damping_leaving(config.damping * m, n * m) for kernel in self.kernels]
        if config.damping_rule == "absolute":
            return [config.damping] * len(self.kernels)
        return self.relative_dampings(config.damping)

    def coordinates(self, queries: Features) -> Coordinates:
        """Where queries lie: computed once for every λ."""
        inside = [
            kernel.inside(queries.gradients[:, group].flatten(0, 1)).reshape(
                len(queries.gradients), -1, len(kernel.values)
            )
            for group, kernel in enumerate(self.kernels)
        ]
        return Coordinates(inside, queries.gradients.double().norm(dim=-1).numpy())

    def scores(
        self, method: Method, queries: Coordinates, dampings: Sequence[float]
    ) -> NDArray[np.float32]:
        """Scores ``(Q, n)`` under one λ for each kernel."""
        blocks = self._effects(method, queries, dampings)
        scores = [method.score(effects, facts) for effects, facts in blocks]
        return np.concatenate(scores, axis=1).astype(np.float32)

    def parts(
        self, method: Method, queries: Coordinates, dampings: Sequence[float]
    ) -> NDArray[np.float32]:
        """What each output adds to the scores: ``(Q, n, m)``."""
        blocks = self._effects(method, queries, dampings)
        parts = [method.parts(effects, facts) for effects, facts in blocks]
        return np.concatenate(parts, axis=1).astype(np.float32)

    def _effects(
        self, method: Method, queries: Coordinates, dampings: Sequence[float]
    ) -> Iterator[tuple[Array, TrainingRows]]:
        """Effects ``(Q, b, G, m)`` of block after block of training images."""
        weights = [
            1 / (kernel.values + damping)
            for kernel, damping in zip(self.kernels, dampings, strict=True)
        ]
        solved = [
            (inside * weight).float()
            for inside, weight in zip(queries.inside, weights, strict=True)
        ]
        for start in range(0, len(self.lengths), BLOCK):
            rows = slice(start, start + BLOCK)
            facts = self._facts(rows, weights, with_hats="timesteps apart" in method.needs)
            # Leverages need every digit, for 1 - h is what is left of them; products do not.
            pattern = "aqr,bpr->abqp" if method.all_pairs else "aqr,bqr->abq"
            products = torch.stack(
                [
                    torch.einsum(pattern, side, inside[rows].float())
                    for side, inside in zip(solved, self.inside, strict=True)
                ],
                dim=2,
            )
            yield method.effects(products.double().numpy(), facts, queries.lengths), facts

    def _blocks(self, group: int) -> list[torch.Tensor]:
        """Every row of one group's kernel, in one block: they are in memory already."""
        return [self.training.gradients[:, group].flatten(0, 1)]

    def _facts(
        self, rows: slice, weights: Sequence[torch.Tensor], *, with_hats: bool
    ) -> TrainingRows:
        inside = [part[rows] for part in self.inside]
        pairs = list(zip(inside, weights, strict=True))
        hats = None
        if with_hats:
            hats = torch.stack([(x * w) @ x.transpose(1, 2) for x, w in pairs], dim=1).numpy()
        return TrainingRows(
            lengths=self.lengths[rows].numpy(),
            leverages=torch.stack([x**2 @ w for x, w in pairs], dim=1).numpy(),
            solved_lengths=torch.stack([(x * w).norm(dim=2) for x, w in pairs], dim=1).numpy(),
            residuals=self.training.residuals[rows].double().numpy(),
            probed_residuals=self.training.probed_residuals[rows].double().numpy(),
            hats=hats,
        )


def scores_without_kernel(
    method: Method, training: Features, queries: Features
) -> NDArray[np.float32]:
    """Scores ``(Q, n)`` of a method that compares features as they are."""
    lengths = training.gradients.double().norm(dim=-1)
    nothing = np.zeros(tuple(lengths.shape))
    facts = TrainingRows(
        lengths=lengths.numpy(),
        leverages=nothing,
        solved_lengths=nothing,
        residuals=training.residuals.double().numpy(),
        probed_residuals=training.probed_residuals.double().numpy(),
        hats=None,
    )
    products = torch.einsum(
        "agqk,bgqk->abgq", queries.gradients.double(), training.gradients.double()
    )
    query_lengths = queries.gradients.double().norm(dim=-1).numpy()
    effects = method.effects(products.numpy(), facts, query_lengths)
    return method.score(effects, facts).astype(np.float32)
