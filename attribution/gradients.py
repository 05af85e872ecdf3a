"""Per-sample gradients of a denoiser's output, projected while they are computed.

Hooks on ``Linear`` and ``Conv2d`` keep each layer's projected input; backpropagation to the
layers' *outputs* (never to the weights) gives δ; the two meet in the projected gradient.  One
forward pass serves any number of output functions, one backward pass each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from attribution.projections import FactorPair, ProjectionKind, factor_pair, side_length

ParameterSelection = Literal["all", "up_blocks", "lora"]
Layer = nn.Linear | nn.Conv2d


def select_layers(module: nn.Module, parameters: str) -> dict[str, Layer]:
    """The layers whose gradients are taken, by name.

    ``parameters`` is ``all``, ``up_blocks`` (paper, Table 6), ``lora`` (adapter weights alone,
    Table 2) or a regular expression that is searched in the module names.
    """
    pattern = {"all": "", "up_blocks": r"(^|\.)up_blocks\.", "lora": r"\.lora_[AB]\."}.get(
        parameters, parameters
    )
    try:
        wanted = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"parameters: {parameters!r} is no regular expression: {error}") from error
    layers: dict[str, Layer] = {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d) and wanted.search(name)
    }
    if not layers:
        raise ValueError(f"parameters: {parameters!r} selects no linear or convolution layer")
    return layers


class GradientProjector:
    """Projected per-sample gradients of ``module``'s selected layers, biases included.

    A bias is the weight of an input that is always one, so every input gets that extra column
    where the layer has a bias.  Inside ``recording`` a forward pass is watched; afterwards
    ``project`` may be called once per output function.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        parameters: str = "all",
        kind: ProjectionKind = "two-sided",
        projection_dim: int = 4096,
        seed: int = 0,
    ) -> None:
        self.module = module
        self.layers = select_layers(module, parameters)
        side = side_length(projection_dim, len(self.layers))
        device = next(module.parameters()).device
        self.pairs: dict[str, FactorPair] = {}
        self.slices: dict[str, slice] = {}
        self.size = 0
        for name, layer in self.layers.items():
            d_in, d_out, groups = _dimensions(layer)
            pair = factor_pair(kind, name, d_in, d_out, side, seed)
            self.pairs[name] = FactorPair(pair.p_in.to(device), pair.p_out.to(device))
            self.slices[name] = slice(self.size, self.size + groups * pair.size)
            self.size += groups * pair.size
        self._calls: list[tuple[str, torch.Tensor, torch.Tensor]] = []

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Watch the forward passes inside; leave the module as it was found."""
        required = {p: p.requires_grad for p in self.module.parameters()}
        self.module.requires_grad_(False)
        for layer in self.layers.values():
            layer.weight.requires_grad_(True)  # or nothing below the output has a graph
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
            for parameter, flag in required.items():
                parameter.requires_grad_(flag)
            self._calls.clear()

    def _keep(self, name: str) -> Any:
        p_in = self.pairs[name].p_in

        def hook(layer: Layer, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            with torch.no_grad():
                projected = _project_input(layer, inputs[0].detach(), p_in)
            self._calls.append((name, projected, output))

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
        rows = torch.zeros((len(output), self.size), device=output.device)
        for (name, projected, _), delta in zip(self._calls, deltas, strict=True):
            if delta is not None:  # a layer may be called without reaching the output
                layer, where = self.layers[name], self.slices[name]
                rows[:, where] += _outer(layer, delta, projected, self.pairs[name].p_out)
        return rows


def _dimensions(layer: Layer) -> tuple[int, int, int]:
    """d_in (with the bias column), d_out, both per group, and the number of groups."""
    bias = int(layer.bias is not None)
    if isinstance(layer, nn.Linear):
        return layer.in_features + bias, layer.out_features, 1
    height, width = layer.kernel_size
    d_in = layer.in_channels // layer.groups * height * width + bias
    return d_in, layer.out_channels // layer.groups, layer.groups


def _project_input(layer: Layer, inputs: torch.Tensor, p_in: torch.Tensor) -> torch.Tensor:
    """P_in a at every position: ``(B, groups, k_in, S)``.

    Unfolding a convolution's input and multiplying by P_in is itself a convolution, with P_in's
    rows as kernels.
    """
    inputs = inputs.to(p_in.dtype)
    weight, bias = (p_in[:, :-1], p_in[:, -1]) if layer.bias is not None else (p_in, None)
    if isinstance(layer, nn.Linear):
        projected = F.linear(inputs, weight, bias)
        return projected.reshape(len(inputs), -1, 1, len(p_in)).permute(0, 2, 3, 1)
    kernel = weight.reshape(len(p_in), layer.in_channels // layer.groups, *layer.kernel_size)
    padding: Any = layer.padding
    if layer.padding_mode != "zeros":
        inputs = F.pad(inputs, layer._reversed_padding_repeated_twice, mode=layer.padding_mode)
        padding = 0
    projected = F.conv2d(
        inputs,
        kernel.repeat(layer.groups, 1, 1, 1),
        None if bias is None else bias.repeat(layer.groups),
        layer.stride,
        padding,
        layer.dilation,
        layer.groups,
    )
    return projected.reshape(len(inputs), layer.groups, len(p_in), -1)


def _outer(
    layer: Layer, delta: torch.Tensor, projected: torch.Tensor, p_out: torch.Tensor
) -> torch.Tensor:
    """Σ_s (P_out δ_s)(P_in a_s)ᵀ, flattened: ``(B, groups·k_out·k_in)``."""
    batch, groups = projected.shape[:2]
    delta = delta.to(p_out.dtype)
    if isinstance(layer, nn.Linear):
        delta = delta.reshape(batch, 1, -1, layer.out_features).transpose(2, 3)
    else:
        delta = delta.reshape(batch, groups, layer.out_channels // groups, -1)
    gradient = (p_out @ delta) @ projected.transpose(2, 3)
    return gradient.reshape(batch, -1)
