"""The scalars of a denoiser's output that are differentiated, each given by its cotangent.

Every method of the paper differentiates some scalars f_q(ε_θ) of the output.  Backpropagation
needs only ∂f_q/∂ε_θ, the cotangent; so that is what an output function is here, and one gradient
engine serves them all.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
import torch.nn.functional as F

from attribution.index.config import ConfigError, OutputName


class OutputFunction(Protocol):
    """``m`` scalars of the output; ``cotangents`` has shape ``(m, B, C, H, W)``."""

    @property
    def count(self) -> int:
        """The number m of scalars."""
        ...

    def cotangents(self, predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """∂f_q/∂ε_θ at ``predicted`` ``(B, C, H, W)``, whose training target is ``target``."""
        ...


class LinearProbes:
    """f_q = ⟨v_q, ε_θ⟩ for fixed orthonormal directions V ``(m, C, H, W)``: the outputs of DAS."""

    def __init__(self, directions: torch.Tensor) -> None:
        self.directions = directions

    @property
    def count(self) -> int:
        """The number m of directions."""
        return len(self.directions)

    def cotangents(self, predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """V itself, the same for every sample."""
        directions = self.directions.to(predicted)
        return directions[:, None].expand(-1, len(predicted), -1, -1, -1)


class SimpleLoss:
    """f = mean((ε_θ - ε)²), the training loss (paper, Eq. 3): gradient, TracIn, GAS, TRAK."""

    count = 1

    def cotangents(self, predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """2 (ε_θ - ε) / D."""
        return (2 * (predicted - target) / predicted[0].numel())[None]


class MeanSquare:
    """f = mean(ε_θ²), the output of D-TRAK's best variant (paper, Eq. 10)."""

    count = 1

    def cotangents(self, predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """2 ε_θ / D."""
        return (2 * predicted / predicted[0].numel())[None]


class L1Norm:
    """f = mean(|ε_θ|), a variant of D-TRAK."""

    count = 1

    def cotangents(self, predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """sign(ε_θ) / D."""
        return (predicted.sign() / predicted[0].numel())[None]


class L2Norm:
    """f = ‖ε_θ‖₂, a variant of D-TRAK."""

    count = 1

    def cotangents(self, predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """ε_θ / ‖ε_θ‖₂."""
        return F.normalize(predicted.flatten(1), dim=1).reshape(predicted.shape)[None]


class LInfinityNorm:
    """f = max|ε_θ|, a variant of D-TRAK."""

    count = 1

    def cotangents(self, predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The sign of the largest element, at its place."""
        flat = predicted.flatten(1)
        largest = flat.abs().argmax(dim=1, keepdim=True)
        cotangent = torch.zeros_like(flat).scatter(1, largest, flat.gather(1, largest).sign())
        return cotangent.reshape(predicted.shape)[None]


def region_probes(grid: int, channels: int, height: int, width: int) -> torch.Tensor:
    """Normalised indicators of the cells of a ``grid × grid`` division: ``(grid², C, H, W)``.

    Row-major from the top left.  ``grid=1`` is the constant image, the output of the paper's code.
    """
    if not 1 <= grid <= min(height, width):
        raise ConfigError(f"{grid} × {grid} regions do not fit into {height} × {width}")
    rows = torch.arange(height) * grid // height
    columns = torch.arange(width) * grid // width
    cell = rows[:, None] * grid + columns[None, :]
    probes = (cell == torch.arange(grid * grid)[:, None, None]).float()
    probes = probes[:, None].expand(-1, channels, -1, -1)
    return _normalised(probes)


def dct_probes(count: int, channels: int, height: int, width: int) -> torch.Tensor:
    """The ``count`` lowest two-dimensional cosine modes, channels summed: ``(count, C, H, W)``."""
    if not 1 <= count <= height * width:
        raise ConfigError(f"{count} cosine modes do not fit into {height} × {width}")
    modes = sorted(
        ((u, v) for u in range(height) for v in range(width)),
        key=lambda mode: (mode[0] ** 2 + mode[1] ** 2, mode),
    )[:count]
    y = (torch.arange(height) + 0.5) / height * torch.pi
    x = (torch.arange(width) + 0.5) / width * torch.pi
    probes = torch.stack([torch.cos(u * y)[:, None] * torch.cos(v * x)[None, :] for u, v in modes])
    probes = probes[:, None].expand(-1, channels, -1, -1)
    return _normalised(probes)


def _normalised(probes: torch.Tensor) -> torch.Tensor:
    return F.normalize(probes.flatten(1), dim=1).reshape(probes.shape)


def output_function(name: OutputName, probes: int, shape: tuple[int, int, int]) -> OutputFunction:
    """The output called ``name``, with m = ``probes``, for a denoiser's output (C, H, W)."""
    scalars: dict[str, type[OutputFunction]] = {
        "loss": SimpleLoss,
        "square": MeanSquare,
        "l1": L1Norm,
        "l2": L2Norm,
        "linf": LInfinityNorm,
    }
    if name in scalars:
        return scalars[name]()
    if name == "dct":
        return LinearProbes(dct_probes(probes, *shape))
    return LinearProbes(region_probes(math.isqrt(probes), *shape))
