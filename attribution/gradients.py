"""Per-sample gradients of a denoiser's output, projected while they are computed.

Hooks keep of each layer's input what its gradient needs; backpropagation to the layers' *outputs*
(never to the weights) gives δ; the two meet in the projected gradient.  One forward pass serves any
number of output functions, one backward pass each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from attribution.index.config import ConfigError, ProjectionKind, check_pattern
from attribution.layers import MATRIX_LAYERS, NORM_LAYERS, LayerGradient, layer_gradient
from attribution.projections import DenseProjection, Fold, side_length

PATTERNS = {"all": "", "up_blocks": r"(^|\.)up_blocks\.", "lora": r"\.lora_[AB]\."}


def select_layers(module: nn.Module, parameters: str) -> dict[str, nn.Module]:
    """The layers whose gradients are taken, by name: linear, convolution and normalisation.

    ``parameters`` is ``all``, ``up_blocks`` (paper, Table 6), ``lora`` (adapter weights alone,
    Table 2) or a regular expression that is searched in the module names.
    """
    check_pattern(parameters)
    wanted = re.compile(PATTERNS.get(parameters, parameters))
    layers = {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, MATRIX_LAYERS + NORM_LAYERS)
        and getattr(layer, "weight", None) is not None
        and wanted.search(name)
    }
    if not layers:
        raise ConfigError(f"parameters: {parameters!r} selects no layer of the model")
    return layers


class GradientProjector:
    """Projected per-sample gradients of ``module``'s selected layers, biases included.

    Inside ``recording`` a forward pass is watched; afterwards ``project`` may be called once per
    output function.  ``size`` is k, ``parameters`` p, the number of selected parameters.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        parameters: str = "all",
        kind: ProjectionKind = "two-sided",
        projection_dim: int = 4096,
        factor_side: int = 16,
        seed: int = 0,
    ) -> None:
        self.module = module
        self.layers = select_layers(module, parameters)
        self.parameters = sum(
            p.numel() for layer in self.layers.values() for p in layer.parameters(recurse=False)
        )
        if kind != "identity" and projection_dim > self.parameters:
            raise ConfigError(
                f"projection_dim {projection_dim} is larger than the {self.parameters} selected"
                " parameters: choose a smaller one, or the identity projection"
            )
        side = None
        if kind == "two-sided":
            matrices = sum(isinstance(layer, MATRIX_LAYERS) for layer in self.layers.values())
            wanted = side_length(projection_dim, matrices, len(self.layers) - matrices)
            side = max(factor_side, wanted)
        device = next(module.parameters()).device
        self.gradients: dict[str, LayerGradient] = {
            name: layer_gradient(name, layer, side, seed, device)
            for name, layer in self.layers.items()
        }
        self.dense: dict[str, DenseProjection] = {}
        if kind in ("gaussian", "rademacher"):
            self.dense = {
                name: DenseProjection(
                    kind, name, gradient.size, projection_dim, seed, self.parameters
                )
                for name, gradient in self.gradients.items()
            }
        numbers = sum(gradient.size for gradient in self.gradients.values())
        kept = projection_dim if kind == "two-sided" else numbers
        self.fold = Fold(numbers, kept, seed, device)
        self.size = projection_dim if self.dense else self.fold.size
        self._calls: list[tuple[str, torch.Tensor, torch.Tensor]] = []

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Watch the forward passes inside; leave the module as it was found."""
        required = {p: p.requires_grad for p in self.module.parameters()}
        checkpointing: list[Any] = [
            m for m in self.module.modules() if getattr(m, "gradient_checkpointing", False)
        ]
        self.module.requires_grad_(False)
        for layer in self.layers.values():
            layer.weight.requires_grad_(True)  # or nothing below the output has a graph
        for m in checkpointing:  # it would run the hooked layers twice
            m.gradient_checkpointing = False
        handles = [
            layer.register_forward_hook(self._keep(name)) for name, layer in self.layers.items()
        ]
        self._calls.clear()
        try:
            with torch.enable_grad():
                yield
        finally:
            for handle in handles:
                handle.remove()
            for m in checkpointing:
                m.gradient_checkpointing = True
            for parameter, flag in required.items():
                parameter.requires_grad_(flag)
            self._calls.clear()

    def _keep(self, name: str) -> Any:
        gradient = self.gradients[name]

        def hook(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            with torch.no_grad():
                kept = gradient.keep(inputs[0].detach())
            self._calls.append((name, kept, output))

        return hook

    def project(self, output: torch.Tensor, cotangent: torch.Tensor) -> torch.Tensor:
        """Rows P ∇_θ ⟨cotangent_b, output_b⟩ of every sample b: float32 ``(B, size)``.

        ``output`` and ``cotangent`` are ``(B, C, H, W)``.  The graph is kept for the next call.
        """
        deltas = torch.autograd.grad(
            output,
            [call[2] for call in self._calls],
            grad_outputs=cotangent.to(output.dtype),
            retain_graph=True,
            allow_unused=True,
        )
        found: dict[str, torch.Tensor] = {}
        for (name, kept, _), delta in zip(self._calls, deltas, strict=True):
            if delta is not None:  # a layer may be called without reaching the output
                part = self.gradients[name].project(delta, kept).float()
                found[name] = found[name] + part if name in found else part
        if self.dense:
            rows = torch.zeros((len(output), self.size), device=output.device)
            for name, part in found.items():
                rows += self.dense[name].apply(part)
            return rows
        empty = output.new_zeros((len(output), 0))
        return self.fold.apply(
            torch.cat(
                [
                    found.get(name, empty.new_zeros((len(output), gradient.size)))
                    for name, gradient in self.gradients.items()
                ],
                dim=1,
            ).float()
        )
