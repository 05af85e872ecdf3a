"""Random matrices that keep inner products on average, each drawn from its name alone."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attribution import projections
from attribution.index.config import ProjectionKind
from attribution.projections import DenseProjection, Fold, factor_pair, gaussian, side_length


def assert_identity_on_average(grams: Iterable[torch.Tensor]) -> None:
    """Every entry within five standard errors of the identity's."""
    drawn = torch.stack(list(grams)).double()
    error = drawn.std(dim=0) / len(drawn) ** 0.5 + 1e-9
    exact = torch.eye(drawn.shape[1])
    assert (((drawn.mean(dim=0) - exact) / error).abs() < 5).all()
    assert float(error.max()) < 0.03  # so that another scale would be seen


def test_factors_keep_inner_products() -> None:
    matrices = [gaussian("layer", 6, 4, seed) for seed in range(4000)]
    assert_identity_on_average(p.T @ p for p in matrices)


@pytest.mark.parametrize("kind", ["gaussian", "rademacher"])
def test_dense_matrices_keep_inner_products(
    kind: ProjectionKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when they are drawn in chunks, here of two rows."""
    monkeypatch.setattr(projections, "CHUNK_NUMBERS", 2 * 4)
    drawn = (DenseProjection(kind, "layer", 5, 4, seed, 5) for seed in range(3000))
    assert_identity_on_average(p @ p.T for p in (dense.apply(torch.eye(5)) for dense in drawn))


def test_rademacher_entries_are_signs() -> None:
    drawn = DenseProjection("rademacher", "layer", 30, 16, 0, 30).apply(torch.eye(30))
    assert torch.equal(drawn.abs(), torch.full((30, 16), 0.25))


def test_a_matrix_depends_on_layer_side_and_seed_alone() -> None:
    pair = factor_pair("down", 9, 9, 3, seed=1)
    again = factor_pair("down", 9, 9, 3, seed=1)
    assert torch.equal(pair.p_in, again.p_in)
    assert torch.equal(pair.p_out, again.p_out)
    assert pair.size == 9
    others = [
        pair.p_out,
        factor_pair("up", 9, 9, 3, seed=1).p_in,
        factor_pair("down", 9, 9, 3, seed=2).p_in,
    ]
    for other in others:  # independent, not only different
        cosine = torch.cosine_similarity(pair.p_in.flatten(), other.flatten(), dim=0)
        assert abs(float(cosine)) < 0.6


def test_folds_keep_inner_products() -> None:
    """Also where the numbers are no multiple of k, and the last ones have no others to meet."""
    folds = (Fold(7, 3, seed, torch.device("cpu")) for seed in range(4000))
    assert_identity_on_average(p @ p.T for p in (fold.apply(torch.eye(7)) for fold in folds))


def test_a_fold_adds_every_kth_number_under_a_sign() -> None:
    fold = Fold(5, 2, 0, torch.device("cpu"))
    folded = fold.apply(torch.eye(5))
    assert folded.shape == (5, fold.size)
    assert torch.equal(folded.abs(), torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 1], [1, 0]]))
    rows = torch.randn((3, 5), generator=torch.Generator().manual_seed(0))
    assert torch.allclose(fold.apply(rows), rows @ folded)


@pytest.mark.parametrize("k", [5, 6])
def test_what_is_as_short_as_k_is_not_folded(k: int) -> None:
    rows = torch.ones((2, 5))
    assert Fold(5, k, 0, torch.device("cpu")).apply(rows) is rows


@pytest.mark.parametrize("side", [None, 4, 5])
def test_short_vectors_are_left_alone(side: int | None) -> None:
    assert torch.equal(gaussian("layer", 4, side, seed=0), torch.eye(4))


@given(st.integers(500, 50_000), st.integers(1, 60), st.integers(0, 60))
def test_sides_give_about_as_many_numbers_as_wanted(k: int, matrices: int, vectors: int) -> None:
    """No other side comes nearer; the next ones are about 2·side·matrices away."""
    side = side_length(k, matrices, vectors)
    sizes = [matrices * s**2 + vectors * s for s in (side - 1, side, side + 1)]
    assert abs(sizes[1] - k) <= min(abs(sizes[0] - k), abs(sizes[2] - k)) + matrices


@given(st.integers(1, 50_000), st.integers(1, 60))
def test_sides_of_normalisations_alone(k: int, vectors: int) -> None:
    side = side_length(k, 0, vectors)
    assert side == 1 or 0 <= k - side * vectors < vectors
