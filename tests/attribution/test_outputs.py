"""Cotangents are the gradients of the formulas that they stand for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.fft import dctn

from attribution.index.config import ConfigError, OutputName
from attribution.outputs import dct_probes, output_function, region_probes

SHAPE = (3, 6, 6)

FORMULAS: dict[OutputName, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "loss": lambda output, target: ((output - target) ** 2).mean(),
    "square": lambda output, target: (output**2).mean(),
    "l1": lambda output, target: output.abs().mean(),
    "l2": lambda output, target: (output**2).sum().sqrt(),
    "linf": lambda output, target: output.abs().max(),
    "mean": lambda output, target: output.mean() * output.numel() ** 0.5,
}


@pytest.mark.parametrize("name", FORMULAS)
def test_scalars(name: OutputName) -> None:
    torch.manual_seed(0)
    output, target = torch.randn(4, *SHAPE).double(), torch.randn(4, *SHAPE).double()
    function = output_function(name, 1, SHAPE)
    cotangents = function.cotangents(output, target)
    assert (function.count, cotangents.shape) == (1, (1, 4, *SHAPE))
    for b in range(4):
        sample = output[b].clone().requires_grad_(True)
        FORMULAS[name](sample, target[b]).backward()
        torch.testing.assert_close(cotangents[0, b], sample.grad, rtol=1e-6, atol=1e-9)


def test_regions_are_the_means_of_cells_row_by_row() -> None:
    """Up to one factor: means of equal cells over rows, columns and channels."""
    output = torch.randn(SHAPE)
    (means,) = F.avg_pool2d(output.mean(dim=0, keepdim=True), 3)
    found = torch.einsum("qchw,chw->q", region_probes(2, *SHAPE), output)
    torch.testing.assert_close(found, means.flatten() * (3 * 3 * 3) ** 0.5)


@given(st.integers(1, 6), st.integers(6, 11), st.integers(6, 11))
def test_regions_divide_any_picture(grid: int, height: int, width: int) -> None:
    """Every pixel lies in one cell, and cells differ by a row and a column at most."""
    cells = region_probes(grid, 2, height, width) > 0
    assert (cells.sum(dim=0) == 1).all()
    sizes = cells[:, 0].sum(dim=(1, 2))
    assert sizes.min() >= (height // grid) * (width // grid)
    assert sizes.max() <= -(-height // grid) * -(-width // grid)


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 5, 4)])
def test_cosine_modes_are_the_lowest_of_the_dct(shape: tuple[int, int, int]) -> None:
    """Against SciPy's orthonormal DCT of the channels' sum."""
    channels, height, width = shape
    output = torch.randn(shape, dtype=torch.float64)
    spectrum = dctn(output.sum(dim=0).numpy() / channels**0.5, norm="ortho")
    frequencies = np.add.outer(np.arange(height) ** 2, np.arange(width) ** 2)
    order = np.argsort(frequencies.ravel(), kind="stable")
    probes = dct_probes(height * width, *shape).double()
    found = torch.einsum("qchw,chw->q", probes, output).numpy()
    np.testing.assert_allclose(found, spectrum.ravel()[order], atol=1e-5)
    assert torch.equal(dct_probes(4, *shape), dct_probes(9, *shape)[:4])


@pytest.mark.parametrize("name", ["regions", "dct"])
def test_probes_are_orthonormal_and_see_every_channel(name: OutputName) -> None:
    function = output_function(name, 9, SHAPE)
    probes = function.cotangents(torch.zeros(2, *SHAPE), torch.zeros(2, *SHAPE))
    assert probes.shape == (9, 2, *SHAPE)
    flat = probes[:, 0].flatten(1)
    torch.testing.assert_close(flat @ flat.T, torch.eye(9), rtol=0, atol=1e-5)
    assert torch.equal(probes[:, 0, 0], probes[:, 0, 2])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="do not fit"):
        region_probes(7, *SHAPE)
    with pytest.raises(ConfigError, match="do not fit"):
        dct_probes(37, *SHAPE)
