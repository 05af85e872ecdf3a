"""Cotangents are the gradients of the formulas that they stand for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

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


@pytest.mark.parametrize("name", ["regions", "dct"])
def test_probes_are_orthonormal_and_see_every_channel(name: OutputName) -> None:
    function = output_function(name, 9, SHAPE)
    probes = function.cotangents(torch.zeros(2, *SHAPE), torch.zeros(2, *SHAPE))
    assert probes.shape == (9, 2, *SHAPE)
    flat = probes[:, 0].flatten(1)
    torch.testing.assert_close(flat @ flat.T, torch.eye(9), rtol=0, atol=1e-5)
    assert torch.equal(probes[:, 0, 0], probes[:, 0, 2])


def test_regions_go_row_by_row() -> None:
    regions = region_probes(2, *SHAPE)
    assert (regions[1, 0, :3, 3:] > 0).all()
    assert (regions[1] > 0).sum() == 3 * 3 * 3


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="do not fit"):
        region_probes(7, *SHAPE)
    with pytest.raises(ConfigError, match="do not fit"):
        dct_probes(37, *SHAPE)
