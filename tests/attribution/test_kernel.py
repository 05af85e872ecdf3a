"""Reference tests 2 and 3: one factorisation, whichever side it is taken from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attribution.kernel import Kernel

shapes = st.tuples(st.integers(1, 24), st.integers(1, 24), st.integers(0, 2**16))
dampings = st.floats(1e-4, 10.0)


def of(phi: np.ndarray, pieces: int = 3) -> Kernel:
    return Kernel.of_rows(lambda: np.array_split(phi, pieces), *phi.shape)


@settings(deadline=None)
@given(shapes, dampings)
def test_preconditioning_is_the_damped_inverse(shape: tuple[int, int, int], damping: float) -> None:
    rows, k, seed = shape
    phi = np.random.default_rng(seed).normal(size=(rows, k))
    kernel = of(phi)
    lam = kernel.absolute(damping)
    assert lam == pytest.approx(damping * np.trace(phi.T @ phi) / k)
    inverse = np.linalg.inv(phi.T @ phi + lam * np.eye(k))
    queries = np.random.default_rng(seed + 1).normal(size=(4, k))
    np.testing.assert_allclose(
        kernel.precondition(queries, damping), queries @ inverse, atol=1e-7 / lam
    )
    leverages = kernel.leverages(phi, damping)
    np.testing.assert_allclose(leverages, np.einsum("ik,kl,il->i", phi, inverse, phi), atol=1e-8)
    assert (leverages >= 0).all()
    assert (leverages < 1).all()
    assert leverages.sum() == pytest.approx(kernel.degrees_of_freedom(damping))


@settings(deadline=None)
@given(st.integers(0, 2**16), dampings)
def test_primal_and_dual_agree(seed: int, damping: float) -> None:
    """Padding the rows with zeros moves the same kernel from the dual to the primal side."""
    phi = np.random.default_rng(seed).normal(size=(6, 9))
    dual, primal = of(phi), of(np.vstack([phi, np.zeros((20, 9))]))
    assert dual.vectors.shape == primal.vectors.shape == (9, 6)
    np.testing.assert_allclose(dual.values, primal.values)
    np.testing.assert_allclose(
        dual.precondition(phi, damping), primal.precondition(phi, damping), rtol=1e-6, atol=1e-9
    )


@settings(deadline=None)
@given(st.integers(0, 2**16), dampings, st.floats(0.01, 100))
def test_scale_of_the_features_changes_no_ranking(seed: int, damping: float, c: float) -> None:
    """Features times c with λ times c²: effects stay, because relative damping scales itself."""
    rng = np.random.default_rng(seed)
    phi, query = rng.normal(size=(12, 7)), rng.normal(size=7)
    plain, scaled = of(phi), of(c * phi)
    assert scaled.absolute(damping) == pytest.approx(c**2 * plain.absolute(damping))
    np.testing.assert_allclose(
        scaled.precondition(c * phi, damping) @ (c * query),
        plain.precondition(phi, damping) @ query,
        rtol=1e-6,
        atol=1e-9,
    )


def test_features_without_content_are_an_error() -> None:
    with pytest.raises(ValueError, match="every feature is zero"):
        of(np.zeros((3, 4)))
