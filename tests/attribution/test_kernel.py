"""Reference tests 2 and 3: one factorisation, whichever side it is taken from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attribution.kernel import Kernel

shapes = st.tuples(st.integers(1, 24), st.integers(1, 24), st.integers(0, 2**16))
dampings = st.floats(1e-4, 10.0)


def of(phi: np.ndarray, pieces: int = 3) -> Kernel:
    return Kernel.of_rows(lambda: torch.from_numpy(phi).tensor_split(pieces), *phi.shape)


def solve(kernel: Kernel, rows: np.ndarray, damping: float) -> np.ndarray:
    return kernel.precondition(torch.from_numpy(rows), damping).numpy()


def leverages(kernel: Kernel, rows: np.ndarray, *dampings: float) -> np.ndarray:
    inside = kernel.inside(torch.from_numpy(rows))
    return kernel.leverages(inside, torch.tensor(dampings, dtype=torch.float64)).numpy()


@given(shapes, dampings)
def test_preconditioning_is_the_damped_inverse(shape: tuple[int, int, int], damping: float) -> None:
    rows, k, seed = shape
    phi = np.random.default_rng(seed).normal(size=(rows, k))
    kernel = of(phi)
    lam = kernel.absolute(damping)
    assert lam == pytest.approx(damping * np.trace(phi.T @ phi) / k)
    inverse = np.linalg.inv(phi.T @ phi + lam * np.eye(k))
    queries = np.random.default_rng(seed + 1).normal(size=(4, k))
    np.testing.assert_allclose(solve(kernel, queries, lam), queries @ inverse, atol=1e-7 / lam)
    h = leverages(kernel, phi, lam, 2 * lam)
    np.testing.assert_allclose(h[0], np.einsum("ik,kl,il->i", phi, inverse, phi), atol=1e-8)
    assert (h >= 0).all()
    assert (h < 1).all()
    assert (h[1] < h[0]).all()
    assert h.sum(axis=1) == pytest.approx(
        [kernel.degrees_of_freedom(lam), kernel.degrees_of_freedom(2 * lam)]
    )


@given(st.integers(0, 2**16), dampings)
def test_primal_and_dual_agree(seed: int, damping: float) -> None:
    """Padding the rows with zeros moves the same kernel from the dual to the primal side."""
    phi = np.random.default_rng(seed).normal(size=(6, 9))
    dual, primal = of(phi), of(np.vstack([phi, np.zeros((20, 9))]))
    assert dual.vectors.shape == primal.vectors.shape == (9, 6)
    torch.testing.assert_close(dual.values, primal.values)
    np.testing.assert_allclose(
        solve(dual, phi, damping), solve(primal, phi, damping), rtol=1e-6, atol=1e-9
    )


@given(st.integers(0, 2**16), dampings, st.floats(0.01, 100))
def test_scale_of_the_features_changes_no_ranking(seed: int, damping: float, c: float) -> None:
    """Features times c with λ times c²: effects stay, because relative damping scales itself."""
    rng = np.random.default_rng(seed)
    phi, query = rng.normal(size=(12, 7)), rng.normal(size=7)
    plain, scaled = of(phi), of(c * phi)
    lam = plain.absolute(damping)
    assert scaled.absolute(damping) == pytest.approx(c**2 * lam)
    np.testing.assert_allclose(
        solve(scaled, c * phi, c**2 * lam) @ (c * query),
        solve(plain, phi, lam) @ query,
        rtol=1e-6,
        atol=1e-9,
    )


@given(shapes, st.floats(0.01, 100))
def test_the_chosen_damping_leaves_the_directions(
    shape: tuple[int, int, int], directions: float
) -> None:
    """They are the sum of the leverages; few rows, and a kernel of few directions, bound them."""
    rows, k, seed = shape
    phi = np.random.default_rng(seed).normal(size=(rows, k))
    kernel = of(phi)
    lam = kernel.damping_leaving(directions, rows)
    reached = leverages(kernel, phi, lam).sum()
    most = min(len(kernel.values) * 2 / 3, 0.2 * rows)
    assert reached == pytest.approx(min(directions, most), rel=1e-6)
    assert of(7 * phi).damping_leaving(directions, rows) == pytest.approx(49 * lam, rel=1e-6)


def test_features_without_content_are_an_error() -> None:
    with pytest.raises(ValueError, match="every feature is zero"):
        of(np.zeros((3, 4)))
