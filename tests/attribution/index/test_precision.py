"""Rounding keeps what matters: every row up to its scale, the small numbers beside the large."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attribution.index.precision import rounded, widened


@pytest.mark.parametrize("store", [torch.float16, torch.bfloat16, torch.float32])
def test_floats_are_rounded_as_they_are(store: torch.dtype) -> None:
    rows = torch.randn(3, 50)
    torch.testing.assert_close(widened(rounded(rows, store)), rows.to(store).float())


@given(st.integers(0, 2**16), st.integers(1, 60), st.floats(1e-6, 1e6))
def test_integers_keep_signs_and_nearly_square_roots(seed: int, k: int, size: float) -> None:
    rows = torch.from_numpy(size * np.random.default_rng(seed).standard_cauchy((4, k))).float()
    kept = widened(rounded(rows, torch.int8))
    largest = rows.abs().amax(dim=1, keepdim=True)
    unit = rows / largest
    kept = kept / 127**2
    assert (kept * unit >= 0).all()
    torch.testing.assert_close(kept.abs().sqrt(), unit.abs().sqrt(), rtol=0, atol=0.51 / 127)


def test_layers_of_small_gradients_survive_beside_large_ones() -> None:
    """Equal steps would round the small half to zero."""
    rows = torch.cat([torch.randn(64), 1e-3 * torch.randn(64)])[None]
    kept = widened(rounded(rows, torch.int8))
    small, found = rows[0, 64:], kept[0, 64:]
    assert torch.nn.functional.cosine_similarity(small, found, dim=0) > 0.9


def test_widening_into_a_buffer_is_the_same() -> None:
    stored = rounded(torch.randn(5, 7), torch.int8)
    out = torch.empty(5, 7)
    assert widened(stored, out=out) is out
    torch.testing.assert_close(out, widened(stored))
    assert not widened(rounded(torch.zeros(1, 3), torch.int8)).any()
