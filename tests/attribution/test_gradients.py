"""Reference test 6: hooked gradients are torch.func's, and projecting them is unbiased."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers.models.normalization import RMSNorm
from peft import LoraConfig
from torch import nn
from torch.func import functional_call, grad, vmap

from attribution import projections
from attribution.denoisers import Denoiser
from attribution.gradients import GradientProjector, select_layers
from attribution.index.config import ConfigError, ProjectionKind
from attribution.layers import NORM_LAYERS


def reference(
    module: nn.Module,
    names: list[str],
    arguments: tuple[torch.Tensor, ...],
    cotangent: torch.Tensor,
) -> torch.Tensor:
    """Per-sample gradients by torch.func, laid out as the projector does: weight then bias."""
    parameters = {name: p.detach() for name, p in module.named_parameters()}

    def scalar(
        selected: dict[str, torch.Tensor], v: torch.Tensor, *sample: torch.Tensor
    ) -> torch.Tensor:
        output = functional_call(module, {**parameters, **selected}, tuple(x[None] for x in sample))
        return (output[0] * v).sum()

    layers = dict(module.named_modules())
    wanted = {
        f"{name}.{kind}": parameters[f"{name}.{kind}"]
        for name in names
        for kind in ("weight", "bias")
        if f"{name}.{kind}" in parameters
    }
    gradients = vmap(grad(scalar), in_dims=(None, 0, *(0 for _ in arguments)))(
        wanted, cotangent, *arguments
    )
    rows = []
    for name in names:
        layer = layers[name]
        groups = getattr(layer, "groups", 1)
        weight = gradients[f"{name}.weight"]
        batch = len(weight)
        if isinstance(layer, NORM_LAYERS):  # γ, then β
            bias = gradients.get(f"{name}.bias", weight[:, :0])
            rows.append(torch.cat([weight.flatten(1), bias.flatten(1)], dim=1))
            continue
        blocks = weight.reshape(batch, groups, weight.shape[1] // groups, -1)
        if f"{name}.bias" in gradients:
            bias = gradients[f"{name}.bias"].reshape(batch, groups, -1, 1)
            blocks = torch.cat([blocks, bias], dim=3)
        rows.append(blocks.reshape(batch, -1))
    return torch.cat(rows, dim=1)


class Convolutions(nn.Module):
    """Stride, dilation, groups, no bias, oblong kernels, every padding, a layer called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, stride=2, padding=1)
        self.grouped = nn.Conv2d(4, 6, 3, padding=2, dilation=2, groups=2)
        self.wrapped = nn.Conv2d(6, 4, (3, 5), padding=(1, 2), bias=False, padding_mode="circular")
        self.shared = nn.Conv2d(4, 4, (1, 3), padding="same")
        self.last = nn.Linear(4, 3, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(self.first(x))
        x = torch.tanh(self.wrapped(torch.tanh(self.grouped(x))))
        x = self.shared(torch.tanh(self.shared(x)))
        return self.last(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(len(x), 3, 4, 4)


def hooked(
    projector: GradientProjector, arguments: tuple[torch.Tensor, ...], cotangent: torch.Tensor
) -> torch.Tensor:
    with projector.recording():
        output = projector.module(*arguments)
        output = getattr(output, "sample", output)
        return projector.project(output, cotangent)


def test_convolutions_and_linear_layers() -> None:
    torch.manual_seed(0)
    module = Convolutions().double()
    x = torch.randn(5, 2, 8, 8).double()
    cotangent = torch.randn(5, 3, 4, 4).double()
    projector = GradientProjector(module.float(), kind="identity")
    found = hooked(projector, (x.float(),), cotangent.float())
    expected = reference(module.double(), list(projector.layers), (x,), cotangent)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


class OutputOnly(nn.Module):
    """A diffusers U-Net as a function of (x, t, states, pooled) that returns a tensor."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(
        self, x: torch.Tensor, t: torch.Tensor, states: torch.Tensor, pooled: torch.Tensor
    ) -> torch.Tensor:
        return self.unet(x, t, states, class_labels=pooled).sample


class Detours(nn.Module):
    """One layer is never called, another has nothing to say to the output."""

    def __init__(self) -> None:
        super().__init__()
        self.idle = nn.Linear(3, 4)
        self.unheard = nn.Linear(4, 2)
        self.heard = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.unheard(x)
        return self.heard(x)


@pytest.mark.parametrize("kind", ["identity", "two-sided", "gaussian"])
def test_layers_that_do_not_reach_the_output_have_no_gradient(kind: ProjectionKind) -> None:
    projector = GradientProjector(Detours(), kind=kind, projection_dim=40)
    x, cotangent = torch.randn(2, 4), torch.randn(2, 4)
    rows = hooked(projector, (x,), cotangent)
    assert rows.shape == (2, projector.size)
    if kind == "identity":
        ones = torch.cat([x, torch.ones(2, 1)], dim=1)
        heard = (cotangent[:, :, None] * ones[:, None]).flatten(1)
        torch.testing.assert_close(rows[:, -20:], heard)
        assert not rows[:, :-20].any()
    else:
        assert rows.any()


@pytest.mark.parametrize(("parameters", "adapted"), [
    ("all", False),
    ("up_blocks", False),
    (r"attn2\.to_[kv]$", False),
    ("lora", True),
    ("all", True),
])  # fmt: skip
def test_text_conditional_unet(tiny_model: Path, parameters: str, adapted: bool) -> None:
    """Attention, cross-attention, GEGLU, time and text embeddings; and LoRA adapters."""
    denoiser = Denoiser.load(tiny_model)
    if adapted:
        denoiser.pipeline.unet.add_adapter(
            LoraConfig(r=2, target_modules=["to_q", "to_v", "conv1"], init_lora_weights=False)
        )
    module = OutputOnly(denoiser.network)
    x = torch.randn(3, 3, 16, 16)
    t = torch.tensor([10, 500, 900])
    condition = denoiser.condition(["disc, ada", "ring, bob", None])
    arguments = (x, t, condition["states"], condition["pooled"])
    cotangent = torch.randn(3, 3, 16, 16)
    projector = GradientProjector(module, parameters=parameters, kind="identity")
    found = hooked(projector, arguments, cotangent)
    expected = reference(module, list(projector.layers), arguments, cotangent)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    assert float(found.abs().max()) > 0
    if parameters == "all":  # convolutions, linear maps and normalisations are all there is
        assert projector.parameters == sum(p.numel() for p in module.parameters())
    assert all("lora_" in name for name in projector.layers) == (parameters == "lora")


class Normalisations(nn.Module):
    """Every kind of normalisation, over channels and over features, with and without β."""

    def __init__(self) -> None:
        super().__init__()
        self.group = nn.GroupNorm(2, 4, eps=0.1)
        self.layer = nn.LayerNorm(4, eps=0.1)
        self.unbiased = nn.LayerNorm(4, bias=False)
        self.rms = nn.RMSNorm(4)
        self.padded_rms = nn.RMSNorm(4, eps=0.1)
        self.diffusers_rms = RMSNorm(4, eps=0.1)
        self.biased_rms = RMSNorm(4, eps=1e-6, bias=True)
        self.whole = nn.LayerNorm((9, 4))
        self.plain = nn.LayerNorm(4, elementwise_affine=False)
        self.mix = nn.Conv2d(4, 4, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(self.group(self.mix(x)))
        tokens = x.flatten(2).transpose(1, 2)
        for name, norm in self.named_children():
            if name not in ("group", "mix"):
                tokens = torch.tanh(norm(tokens) + tokens)
        return tokens.transpose(1, 2).reshape(x.shape)


def test_normalisation_layers_exactly() -> None:
    """Also where γ is zero, and the layer's output says nothing of its input."""
    torch.manual_seed(0)
    module = Normalisations()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
        module.group.weight[0] = 0
        module.rms.weight.zero_()
    x, cotangent = torch.randn(5, 4, 3, 3), torch.randn(5, 4, 3, 3)
    projector = GradientProjector(module, kind="identity")
    assert set(projector.layers) == {name for name, _ in module.named_children()} - {"plain"}
    assert projector.parameters == projector.size == sum(p.numel() for p in module.parameters())
    found = hooked(projector, (x,), cotangent)
    expected = reference(module.double(), list(projector.layers), (x.double(),), cotangent.double())
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


def test_gradient_checkpointing_changes_nothing(tiny_model: Path) -> None:
    denoiser = Denoiser.load(tiny_model)
    projector = GradientProjector(denoiser.network, projection_dim=300)
    condition = denoiser.condition(["disc, ada"] * 2)
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([10, 500])

    def rows() -> torch.Tensor:
        with projector.recording():
            return projector.project(denoiser.predict(x, t, condition), torch.ones(2, 3, 16, 16))

    plain = rows()
    denoiser.pipeline.unet.enable_gradient_checkpointing()
    torch.testing.assert_close(rows(), plain)
    assert denoiser.pipeline.unet.is_gradient_checkpointing


@pytest.mark.parametrize(("network", "shape", "k"), [
    (Convolutions, (2, 8, 8), 45),
    (Normalisations, (4, 3, 3), 20),
])  # fmt: skip
@pytest.mark.parametrize(("kind", "side"), [
    ("two-sided", 1),
    ("two-sided", 5),
    ("two-sided", 16),
    ("gaussian", 16),
    ("rademacher", 16),
])  # fmt: skip
def test_projected_inner_products_are_unbiased(
    kind: ProjectionKind, side: int, network: type[nn.Module], shape: tuple[int, int, int], k: int
) -> None:
    """Averaged over seeds, ⟨Pg, Pg'⟩ approaches ⟨g, g'⟩ within its standard error."""
    torch.manual_seed(0)
    module, x = network(), torch.randn(2, *shape)
    cotangent = torch.randn_like(module(x))
    exact = hooked(GradientProjector(module, kind="identity"), (x,), cotangent)
    products = []
    for seed in range(300):
        projector = GradientProjector(
            module, kind=kind, projection_dim=k, factor_side=side, seed=seed
        )
        assert projector.size < exact.shape[1]
        rows = hooked(projector, (x,), cotangent)
        products.append(rows @ rows.T)
    estimates = torch.stack(products)
    error = estimates.std(dim=0) / len(products) ** 0.5
    assert (((estimates.mean(dim=0) - exact @ exact.T) / error).abs() < 4).all()


@pytest.mark.parametrize("kind", ["gaussian", "rademacher"])
def test_dense_matrices_are_the_same_kept_or_drawn_anew(
    kind: ProjectionKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    module = Convolutions()
    x, cotangent = torch.randn(2, 2, 8, 8), torch.randn(2, 3, 4, 4)
    monkeypatch.setattr(projections, "CHUNK_NUMBERS", 7 * 45)
    kept = GradientProjector(module, kind=kind, projection_dim=45)
    monkeypatch.setattr(projections, "KEPT_NUMBERS", 0)
    drawn = GradientProjector(module, kind=kind, projection_dim=45)
    found = hooked(drawn, (x,), cotangent)
    assert torch.equal(found, hooked(kept, (x,), cotangent))
    assert torch.equal(found, hooked(drawn, (x,), cotangent))


def test_more_numbers_than_parameters_are_refused() -> None:
    module = Convolutions()
    p = sum(parameter.numel() for parameter in module.parameters())
    with pytest.raises(ConfigError, match=f"larger than the {p} selected"):
        GradientProjector(module, projection_dim=p + 1)
    assert GradientProjector(module, kind="identity", projection_dim=p + 1).size == p


def test_recording_leaves_the_module_as_it_was(tiny_model: Path) -> None:
    network = Denoiser.load(tiny_model).network
    before = [p.requires_grad for p in network.parameters()]
    with GradientProjector(network).recording():
        pass
    assert [p.requires_grad for p in network.parameters()] == before
    assert not any(module._forward_hooks for module in network.modules())


def test_selection_that_finds_nothing_is_an_error(tiny_model: Path) -> None:
    network = Denoiser.load(tiny_model).network
    with pytest.raises(ValueError, match="selects no"):
        select_layers(network, "lora")
    with pytest.raises(ValueError, match="no regular expression"):
        select_layers(network, "(")
