"""What one layer contributes to a per-sample gradient: what to keep going forward, what going back.

A linear map or a convolution has a gradient Σ_s δ_s a_sᵀ; both factors are projected before they
meet.  A normalisation layer y = γ x̂ + β has Σ_s δ_s x̂_s and Σ_s δ_s: short vectors that are
projected whole.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from diffusers.models.normalization import RMSNorm as DiffusersRMSNorm
from torch import nn

from attribution.projections import FactorPair, factor_pair, gaussian

MATRIX_LAYERS = (nn.Linear, nn.Conv2d)
NORM_LAYERS = (nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, DiffusersRMSNorm)


class LayerGradient(Protocol):
    """The projected gradient of one layer's own parameters."""

    @property
    def size(self) -> int:
        """Numbers per sample."""
        ...

    def keep(self, inputs: torch.Tensor) -> torch.Tensor:
        """What of a forward pass's input the gradient needs."""
        ...

    def project(self, delta: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """The projected gradient ``(B, size)``; ``delta`` is the gradient at the layer's output."""
        ...


def layer_gradient(
    name: str, layer: nn.Module, side: int | None, seed: int, device: torch.device
) -> LayerGradient:
    """The gradient of ``layer``, projected to ``side`` each way; ``None`` projects nothing."""
    if isinstance(layer, nn.Linear):
        pair = factor_pair(name, *_with_bias(layer, layer.in_features), side, seed)
        return LinearGradient(layer, _moved(pair, device))
    if isinstance(layer, nn.Conv2d):
        inputs = layer.in_channels // layer.groups * layer.kernel_size[0] * layer.kernel_size[1]
        d_in, _ = _with_bias(layer, inputs)
        pair = factor_pair(name, d_in, layer.out_channels // layer.groups, side, seed)
        return ConvolutionGradient(layer, _moved(pair, device))
    d = sum(p.numel() for p in layer.parameters(recurse=False))
    return NormGradient(layer, gaussian(f"{name}/norm", d, side, seed).to(device))


class LinearGradient:
    """Σ_s (P_out δ_s)(P_in a_s)ᵀ; a bias is the weight of an input that is always one."""

    def __init__(self, layer: nn.Linear, pair: FactorPair) -> None:
        self.layer, self.pair, self.size = layer, pair, pair.size

    def keep(self, inputs: torch.Tensor) -> torch.Tensor:
        """P_in a at every position: ``(B, S, k_in)``."""
        weight, bias = _split_bias(self.layer, self.pair.p_in)
        inputs = inputs.to(weight.dtype)
        projected = F.linear(inputs, weight, bias)
        return projected.reshape(len(inputs), -1, len(weight))

    def project(self, delta: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """``(B, k_out·k_in)`` from δ ``(B, …, d_out)``."""
        p_out = self.pair.p_out
        delta = F.linear(delta.to(p_out.dtype), p_out).reshape(len(kept), -1, len(p_out))
        return (delta.transpose(1, 2) @ kept).reshape(len(kept), -1)


class ConvolutionGradient:
    """The same for a convolution, whose a_s is the patch under the kernel at s.

    Unfolding the input and multiplying by P_in is itself a convolution, with P_in's rows as
    kernels.
    """

    def __init__(self, layer: nn.Conv2d, pair: FactorPair) -> None:
        self.layer, self.pair, self.size = layer, pair, layer.groups * pair.size

    def keep(self, inputs: torch.Tensor) -> torch.Tensor:
        """P_in a at every position: ``(B, groups, k_in, S)``."""
        layer = self.layer
        weight, bias = _split_bias(layer, self.pair.p_in)
        inputs = inputs.to(weight.dtype)
        kernel = weight.reshape(len(weight), layer.in_channels // layer.groups, *layer.kernel_size)
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
        return projected.reshape(len(inputs), layer.groups, len(weight), -1)

    def project(self, delta: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """``(B, groups·k_out·k_in)`` from δ ``(B, d_out, H, W)``."""
        batch, groups = kept.shape[:2]
        p_out = self.pair.p_out
        delta = delta.to(p_out.dtype).reshape(batch, groups, p_out.shape[1], -1)
        return ((p_out @ delta) @ kept.transpose(2, 3)).reshape(batch, -1)


class NormGradient:
    """γ then β of a group, layer or RMS normalisation: Σ_s δ_s x̂_s and Σ_s δ_s, times P."""

    def __init__(self, layer: nn.Module, projection: torch.Tensor) -> None:
        self.layer, self.projection, self.size = layer, projection, len(projection)
        self.biased = getattr(layer, "bias", None) is not None

    def keep(self, inputs: torch.Tensor) -> torch.Tensor:
        """x̂ as ``(B, C, S)`` for group normalisation, ``(B, S, C)`` for the others."""
        layer: Any = self.layer
        if isinstance(layer, nn.GroupNorm):
            return F.group_norm(inputs, layer.num_groups, eps=layer.eps).flatten(2)
        if isinstance(layer, nn.LayerNorm):
            normal = F.layer_norm(inputs, layer.normalized_shape, eps=layer.eps)
        elif isinstance(layer, nn.RMSNorm):
            normal = F.rms_norm(inputs, layer.normalized_shape, eps=layer.eps)
        else:
            variance = inputs.float().pow(2).mean(-1, keepdim=True)
            normal = inputs * torch.rsqrt(variance + layer.eps)
        return normal.reshape(len(inputs), -1, layer.weight.numel())

    def project(self, delta: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """``(B, k)`` from δ of the layer's output."""
        delta = delta.reshape(kept.shape)
        over = 2 if isinstance(self.layer, nn.GroupNorm) else 1
        gradient = (delta * kept).sum(dim=over)
        if self.biased:
            gradient = torch.cat([gradient, delta.sum(dim=over)], dim=1)
        return F.linear(gradient.to(self.projection.dtype), self.projection)


def _with_bias(layer: nn.Linear | nn.Conv2d, d_in: int) -> tuple[int, int]:
    """d_in with the bias column where there is one, and d_out."""
    return d_in + int(layer.bias is not None), len(layer.weight)


def _split_bias(
    layer: nn.Linear | nn.Conv2d, p_in: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor | None]:
    return (p_in, None) if layer.bias is None else (p_in[:, :-1], p_in[:, -1])


def _moved(pair: FactorPair, device: torch.device) -> FactorPair:
    return FactorPair(pair.p_in.to(device), pair.p_out.to(device))
