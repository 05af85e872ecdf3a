"""Reference test 4: every method against plain float64 NumPy, on shared features, through an index.

The features are random; the road is the real one: shards, kernel, index on disk, products, scores.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import torch

from attribution.features import Batch, Features, Progress
from attribution.image_set import ImageSet
from attribution.index import search
from attribution.index.build import IndexBuilder
from attribution.index.config import IndexConfig
from attribution.index.search import Index
from attribution.kernel import Kernel
from attribution.methods import METHODS, config_for

N, Q, K = 12, 3, 8


@dataclass(frozen=True)
class Shared:
    """Features of all images ``(n, G, m, k)``, residuals, the absolute λ of each group."""

    phi: np.ndarray
    gen: np.ndarray
    r: np.ndarray
    probed: np.ndarray
    dampings: list[float]

    @cached_property
    def inverses(self) -> list[np.ndarray]:
        """(K + λI)⁻¹ of each group's joint kernel, inverted outright."""
        found = []
        for group, damping in enumerate(self.dampings):
            rows = self.phi[:, group].reshape(-1, self.phi.shape[-1])
            found.append(np.linalg.inv(rows.T @ rows + damping * np.eye(rows.shape[1])))
        return found

    @property
    def groups(self) -> range:
        """Checkpoints times timesteps kept apart: every method averages over them last."""
        return range(self.phi.shape[1])

    @property
    def outputs(self) -> range:
        return range(self.phi.shape[2])


class GivenFeatures:
    """An extractor whose features are given, by key."""

    identity, settings = "given", ""

    def __init__(self, config: IndexConfig, features: dict[str, Features]) -> None:
        self.config, self.features = config, features
        self.shape = next(iter(features.values())).gradients.shape

    def extract(self, batch: Batch, on_progress: Progress | None = None) -> Features:
        found = [self.features[key] for key in batch.keys]
        return Features(
            torch.stack([f.gradients for f in found]),
            torch.stack([f.residuals for f in found]),
            torch.stack([f.probed_residuals for f in found]),
        )


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def dot(s: Shared, q: int, i: int, c: int) -> float:
    return float(s.gen[q, c, 0] @ s.phi[i, c, 0])


def dot_cosine(s: Shared, q: int, i: int, c: int) -> float:
    return cosine(s.gen[q, c, 0], s.phi[i, c, 0])


def trak(s: Shared, q: int, i: int, c: int) -> float:
    return float(s.gen[q, c, 0] @ s.inverses[c] @ s.phi[i, c, 0])


def relative(s: Shared, q: int, i: int, c: int) -> float:
    return trak(s, q, i, c) / float(np.linalg.norm(s.inverses[c] @ s.phi[i, c, 0]))


def renormalised(s: Shared, q: int, i: int, c: int) -> float:
    return trak(s, q, i, c) / float(np.linalg.norm(s.phi[i, c, 0]))


def effect(s: Shared, q: int, i: int, c: int, gen_output: int, output: int) -> float:
    H_inv, phi = s.inverses[c], s.phi[i, c, output]
    return float(s.gen[q, c, gen_output] @ H_inv @ phi / (1 - phi @ H_inv @ phi))


def das(s: Shared, q: int, i: int, c: int) -> float:
    return sum((effect(s, q, i, c, p, p) * s.r[i, c]) ** 2 for p in s.outputs)


def das_signed(s: Shared, q: int, i: int, c: int) -> float:
    return sum(effect(s, q, i, c, p, p) for p in s.outputs)


def das_frobenius(s: Shared, q: int, i: int, c: int) -> float:
    return sum((effect(s, q, i, c, p, o) * s.r[i, c]) ** 2 for p in s.outputs for o in s.outputs)


def das_t(s: Shared, q: int, i: int, t: int) -> float:
    H_inv, J, J_gen = s.inverses[t], s.phi[i, t].T, s.gen[q, t].T
    corrected = np.linalg.inv(np.eye(J.shape[1]) - J.T @ H_inv @ J) @ s.probed[i, t]
    return float(np.sum((J_gen.T @ H_inv @ J @ corrected) ** 2))


# The score of training image i for query q from one checkpoint or timestep.
ORACLES: dict[str, Callable[[Shared, int, int, int], float]] = {
    "das": das,
    "das-mean": das,
    "das-signed": das_signed,
    "das-frobenius": das_frobenius,
    "das-t": das_t,
    "dtrak": trak,
    "dtrak-mean": trak,
    "dtrak-l1": trak,
    "dtrak-l2": trak,
    "dtrak-linf": trak,
    "trak": trak,
    "relative-influence": relative,
    "renormalised-influence": renormalised,
    "journey-trak": trak,
    "tracin": dot,
    "gas": dot_cosine,
    "gradient": dot,
    "gradient-cosine": dot_cosine,
    "clip": dot,
    "clip-cosine": dot_cosine,
    "raw-pixel": dot,
    "raw-pixel-cosine": dot_cosine,
}


def test_every_method_has_an_oracle() -> None:
    assert ORACLES.keys() == METHODS.keys()


def build(
    directory: Path, folder: ImageSet, config: IndexConfig, k: int, scale: float
) -> tuple[Index, Shared]:
    """An index of random features, and the same features in float64."""
    apart = 1 if config.average_timesteps else config.timesteps
    rng, shape = np.random.default_rng(k), (config.checkpoints * apart, config.probes, k)
    phi = (scale * rng.normal(size=(N, *shape))).astype(np.float32)
    r = rng.uniform(0.2, 0.4, size=(N, shape[0])).astype(np.float32)
    probed = rng.normal(size=(N, *shape[:2])).astype(np.float32)
    given = {
        sample.key: Features(*(torch.from_numpy(part[i]) for part in (phi, r, probed)))
        for i, sample in enumerate(folder.samples)
    }
    builder = IndexBuilder(directory, GivenFeatures(config, given), folder, shard_size=5)
    for shard in builder.shards:
        builder.extract(shard.number)
    manifest = builder.finalise(None)
    gen = (scale * rng.normal(size=(Q, *shape))).astype(np.float32)
    wide = [part.astype(np.float64) for part in (phi, gen, r, probed)]
    return Index(directory, verify=True), Shared(*wide, manifest.dampings)


@pytest.mark.parametrize(("k", "checkpoints"), [
    (K, None),  # fewer numbers than rows: primal
    (200, None),  # more: dual
    (K, 2),  # a kernel for each checkpoint, whatever the method
])  # fmt: skip
@pytest.mark.parametrize("name", METHODS)
def test_scores_are_the_oracles(
    tmp_path: Path,
    tiny_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    k: int,
    checkpoints: int | None,
) -> None:
    method, folder = METHODS[name], ImageSet(tiny_folder)
    knobs = {} if checkpoints is None else {"checkpoints": checkpoints}
    config = config_for(
        name, timesteps=2, damping=0.3, damping_rule="relative", store="float32", **knobs
    )
    index, shared = build(tmp_path, folder, config, k, scale=1e-6)
    traces = (shared.phi**2).sum(axis=(0, 2, 3))
    assert index.manifest.dampings == pytest.approx(
        list(0.3 * traces / k) if method.uses_kernel or config.output == "loss" else []
    )
    gen = torch.from_numpy(shared.gen).float()
    side = index.precondition(gen) if method.uses_kernel else gen
    lengths = gen.double().norm(dim=-1).numpy()

    def scored(rows: slice | np.ndarray) -> np.ndarray:
        facts = index.facts(rows)
        products = index.products(side, rows, all_pairs=method.all_pairs)
        effects = method.effects(products, facts, lengths)
        scores = method.score(effects, facts)
        np.testing.assert_allclose(method.parts(effects, facts).sum(axis=2), scores)
        return scores

    scores = scored(slice(None))
    oracle = ORACLES[name]
    expected = np.array(
        [
            [np.mean([oracle(shared, q, i, c) for c in shared.groups]) for i in range(N)]
            for q in range(Q)
        ]
    )
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=2e-6 * np.abs(expected).max())
    assert method.signed == bool((scores < 0).any())

    monkeypatch.setattr(search, "BLOCK_NUMBERS", 5 * shared.phi[0].size)  # five images at a time
    for rows in (slice(None), slice(3, 11), np.array([11, 1, 4]), np.arange(N)[::-1].copy()):
        among = scored(rows)
        tolerance = 1e-6 * np.abs(expected).max()
        np.testing.assert_allclose(among, scores[:, rows], rtol=1e-5, atol=tolerance)


def test_the_damping_is_relative_absolute_or_chosen(tmp_path: Path, tiny_folder: Path) -> None:
    folder = ImageSet(tiny_folder)
    found = {}
    for rule, damping in (("relative", 0.3), ("absolute", 7.0), ("directions", 2.0)):
        config = config_for("trak", damping_rule=rule, damping=damping, store="float32")
        index, shared = build(tmp_path / rule, folder, config, K, scale=1.0)
        (found[rule],) = index.manifest.dampings
    trace = float((shared.phi**2).sum())
    assert found["relative"] == pytest.approx(0.3 * trace / K)
    assert found["absolute"] == 7.0
    rows = torch.from_numpy(shared.phi[:, 0, 0])
    kernel = Kernel.of_rows(lambda: [rows], N, K)
    assert kernel.degrees_of_freedom(found["directions"]) == pytest.approx(2.0)
    assert json.loads((tmp_path / "directions" / "manifest.json").read_text())["dampings"] == [
        found["directions"]
    ]


def test_leverages_near_one_keep_their_digits(tmp_path: Path, tiny_folder: Path) -> None:
    """Few rows and a tiny λ: 1 - h is λ-sized, and every score rests on it."""
    config = config_for("das", damping=1e-6, damping_rule="relative", store="float32")
    index, shared = build(tmp_path, ImageSet(tiny_folder), config, 400, scale=1.0)
    rows = shared.phi[:, 0].reshape(-1, 400)
    solved = np.linalg.solve(rows @ rows.T + shared.dampings[0] * np.eye(len(rows)), rows)
    expected = 1 - np.einsum("ik,ik->i", solved, rows).reshape(N, 4)
    assert expected.max() < 1e-5
    found = 1 - index.facts(slice(None)).leverages[:, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-3)
