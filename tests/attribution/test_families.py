"""Stable Diffusion 1, XL and 3, and DiT: the pipelines' own code is the oracle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiTPipeline, StableDiffusionPipeline
from latent_models import LATENT_KINDS
from peft import LoraConfig
from PIL import Image
from safetensors.torch import load_file, save_file
from single_file_checkpoint import write_single_file
from torch import nn

from attribution.denoisers import Denoiser, DenoiserError, Drawing
from attribution.families import Condition
from attribution.gradients import GradientProjector
from attribution.noise import select_timesteps

Make = Callable[[str], Path]
WEIGHTS = "diffusion_pytorch_model.safetensors"
CAPTIONS = ["disc, ada", "ring, bob", None]


def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 24, 3), np.uint8))


@pytest.mark.parametrize("kind", LATENT_KINDS)
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_drawing_is_the_pipelines_own(latent_model: Make, kind: str, scale: float) -> None:
    """The same starting noise, prompt and guidance give what diffusers' own loop gives."""
    denoiser = Denoiser.load(latent_model(kind))
    negative = "" if kind == "dit" else "ring, bob"
    drawing = Drawing(9, 4, scale, negative)
    *_, last = denoiser.drawn_together(["disc, ada"], [9], drawing)
    noise = torch.randn(denoiser.shape, generator=torch.Generator().manual_seed(9))[None]
    pipeline = denoiser.pipeline
    arguments: dict[str, Any] = {"num_inference_steps": 4, "guidance_scale": scale}
    if isinstance(pipeline, DiTPipeline):
        arguments |= {"class_labels": [0], "generator": torch.Generator().manual_seed(9)}
    else:
        arguments |= {"prompt": "disc, ada", "latents": noise, "negative_prompt": negative or None}
    theirs = pipeline(**arguments, output_type="np").images[0]
    ours = np.asarray(denoiser.decode(last.sample)[0]) / 255
    np.testing.assert_allclose(ours, theirs, atol=0.6 / 255)


@pytest.mark.parametrize("kind", LATENT_KINDS)
def test_the_same_seed_gives_the_same_bytes(latent_model: Make, kind: str) -> None:
    denoiser = Denoiser.load(latent_model(kind))
    drawing = Drawing(5, 3, 3.0)
    first, second = (denoiser.generate("disc, ada", drawing) for _ in range(2))
    assert first.tobytes() == second.tobytes()
    assert denoiser.generate("disc, ada", Drawing(6, 3, 3.0)).tobytes() != first.tobytes()
    assert denoiser.generate("ring, bob", drawing).tobytes() != first.tobytes()


def test_no_negative_prompt_is_what_xl_was_trained_with(latent_model: Make) -> None:
    """Zeros, where the pipeline says so, and not the states of the empty text."""
    denoiser = Denoiser.load(latent_model("sdxl"))
    _, away = denoiser.family.guidance(["disc, ada"], "")
    assert not away["states"].any()
    assert denoiser.condition([None])["states"].any()


@pytest.mark.parametrize("kind", LATENT_KINDS)
def test_pictures_become_the_modes_of_the_autoencoder(latent_model: Make, kind: str) -> None:
    """x_0 = (mode - shift) · scale; decoding undoes shift and scale."""
    denoiser = Denoiser.load(latent_model(kind))
    vae = denoiser.pipeline.vae
    x_0 = denoiser.encode(picture())
    small = np.asarray(picture().resize((16, 16), Image.Resampling.LANCZOS), np.float32)
    pixels = torch.from_numpy(small / 127.5 - 1).permute(2, 0, 1)[None]
    shift = 0.1 if kind == "sd3" else 0.0
    with torch.no_grad():
        mode = vae.encode(pixels).latent_dist.mean
        expected = vae.decode(mode).sample[0]
    torch.testing.assert_close(x_0[None], (mode - shift) * 0.7, rtol=1e-4, atol=1e-4)
    assert x_0.shape == denoiser.shape == (4, 8, 8)
    found = np.asarray(denoiser.decode(x_0[None])[0]).astype(float) / 127.5 - 1
    expected = expected.clamp(-1, 1).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(found, expected, atol=1 / 127)


def test_flow_matching_by_its_formulas(latent_model: Make) -> None:
    """x_t = (1-σ) x_0 + σ ε, target ε - x_0, told 1,000 σ; σ = 3s / (1 + 2s) of s = (t+1)/1000."""
    denoiser = Denoiser.load(latent_model("sd3"))
    t = torch.tensor([0, 499, 999])
    s = (t + 1) / 1000
    sigma = (3 * s / (1 + 2 * s))[:, None, None, None]
    x_0, noise = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8)
    torch.testing.assert_close(denoiser.add_noise(x_0, noise, t), (1 - sigma) * x_0 + sigma * noise)
    torch.testing.assert_close(denoiser.target(x_0, noise, t), noise - x_0)
    time = denoiser.family.process.network_time(t)
    torch.testing.assert_close(time, 1000 * sigma.flatten())
    levels = denoiser.noise_levels
    assert levels == sorted(levels)
    assert levels[-1] == pytest.approx(1)
    level = float(sigma[1] / (sigma[1] ** 2 + (1 - sigma[1]) ** 2).sqrt())
    assert levels[499] == pytest.approx(level, rel=1e-5)
    for step in denoiser.drawn_together(["disc, ada"], [1], Drawing(0, 5)):
        assert 0 <= step.timestep < 1000
    torch.testing.assert_close(step.predicted_x_0, step.sample, rtol=1e-4, atol=1e-4)
    assert len(select_timesteps(3, "low-noise", levels)) == 3


class Told(nn.Module):
    """A network as a function of tensors, its condition among them."""

    def __init__(self, denoiser: Denoiser, names: list[str]) -> None:
        super().__init__()
        self.network, self.names = denoiser.network, names
        self.predict = denoiser.predict

    def forward(self, x: torch.Tensor, t: torch.Tensor, *told: torch.Tensor) -> torch.Tensor:
        return self.predict(x, t, Condition(dict(zip(self.names, told, strict=True))))


@pytest.mark.parametrize(("kind", "parameters"), [
    ("sd", "all"), ("sd", "lora"), ("sdxl", "all"), ("sd3", "all"), ("dit", "all"),
])  # fmt: skip
def test_features_are_per_sample_gradients(
    latent_model: Make, tiny_lora: Path, kind: str, parameters: str
) -> None:
    """Identity projection against ``torch.func``: attention, GEGLU, adaptive norms, LoRA layers."""
    lora = tiny_lora if parameters == "lora" else None
    denoiser = Denoiser.load(latent_model(kind), lora=lora)
    condition = denoiser.condition(CAPTIONS)
    told = [condition[name] for name in condition.tensors]
    module = Told(denoiser, list(condition.tensors))
    x, t = torch.randn(3, 4, 8, 8), torch.tensor([20, 400, 900])
    cotangent = torch.randn(3, 4, 8, 8)
    projector = GradientProjector(denoiser.network, parameters=parameters, kind="identity")
    with projector.recording():
        found = projector.project(module(x, t, *told), cotangent)
    chosen = {
        f"network.{name}.{part}": p.detach()
        for name, layer in projector.layers.items()
        for part, p in layer.named_parameters(recurse=False)
    }

    def scalar(
        weights: dict[str, torch.Tensor], x: torch.Tensor, t: torch.Tensor,
        v: torch.Tensor, *told: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        rows = (x[None], t[None], *(one[None] for one in told))
        return (torch.func.functional_call(module, weights, rows) * v[None]).sum()

    samples = (None, 0, 0, 0, *[0] * len(told))
    gradients = torch.func.vmap(torch.func.grad(scalar), samples)(chosen, x, t, cotangent, *told)
    for name, layer in projector.layers.items():
        mine = found[:, : projector.gradients[name].size]
        found = found[:, projector.gradients[name].size :]
        parts = {
            part: gradients[f"network.{name}.{part}"]
            for part, _ in layer.named_parameters(recurse=False)
        }
        weight = parts["weight"]
        if isinstance(layer, nn.GroupNorm | nn.LayerNorm) or weight.ndim == 2:
            expected = torch.cat([p.flatten(1) for p in parts.values()], dim=1)
        else:  # a matrix, with the bias as its last column
            matrix = weight.flatten(2)
            if "bias" in parts:
                matrix = torch.cat([matrix, parts["bias"][:, :, None]], dim=2)
            expected = matrix.flatten(1)
        scale = float(expected.detach().abs().max())
        torch.testing.assert_close(mine, expected, rtol=1e-3, atol=1e-5 * max(scale, 1), msg=name)
    assert not found.numel()
    every = sum(p.numel() for p in denoiser.network.parameters())
    if parameters == "lora":
        assert 0 < projector.parameters < every / 4
    else:  # all but tables: of positions, of classes, of adaptive norms
        layers = [m for m in denoiser.network.modules() if isinstance(m, nn.Embedding)]
        tables = sum(p.numel() for table in layers for p in table.parameters())
        assert projector.parameters > 0.9 * (every - tables)


@pytest.mark.parametrize("kind", LATENT_KINDS)
def test_conditions_belong_to_their_captions(latent_model: Make, kind: str) -> None:
    denoiser = Denoiser.load(latent_model(kind))
    both = denoiser.condition(CAPTIONS)
    for name, tensor in both.tensors.items():
        for row, caption in enumerate(CAPTIONS):
            torch.testing.assert_close(tensor[row], denoiser.condition([caption])[name][0])
        twice = both.repeat(2)[name]
        assert torch.equal(twice, torch.cat([tensor, tensor]))
        assert torch.equal(both.followed_by(both)[name], twice)
    x = torch.randn(1, 4, 8, 8).expand(3, -1, -1, -1)
    outputs = denoiser.predict(x, torch.tensor([300] * 3), both)
    assert (outputs[0] - outputs[1]).abs().max() > 1e-6


def test_classes_are_named_or_numbered(latent_model: Make) -> None:
    denoiser = Denoiser.load(latent_model("dit"))
    told = denoiser.condition(["ring, bob", " square ", "17", None, ""])["labels"]
    assert told.tolist() == [1, 2, 17, 1000, 1000]
    for stranger in ("a cat", "1000", "-1"):
        with pytest.raises(DenoiserError, match="none of the model's 1000 classes"):
            denoiser.condition([stranger])
    with pytest.raises(DenoiserError, match="no negative prompt"):
        list(denoiser.drawn_together(["3"], [0], Drawing(0, 2, 3.0, "a cat")))


def test_a_lora_of_peft_and_of_diffusers_are_the_same(
    latent_model: Make, tiny_lora: Path, tmp_path: Path
) -> None:
    """Spellings of one adapter: peft's directory, diffusers' file, alone by its base's name."""
    state = load_file(tiny_lora / "adapter_model.safetensors")
    StableDiffusionPipeline.save_lora_weights(
        tmp_path,
        {name.removeprefix("base_model.model."): p for name, p in state.items()},
        unet_lora_adapter_metadata=LoraConfig.from_pretrained(tiny_lora).to_dict(),
    )
    file = tmp_path / "pytorch_lora_weights.safetensors"
    alone = tmp_path / "alone"
    shutil.copytree(tiny_lora, alone)
    settings = json.loads((alone / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = str(latent_model("sd"))
    (alone / "adapter_config.json").write_text(json.dumps(settings))

    plain = Denoiser.load(latent_model("sd"))
    loaded = [
        Denoiser.load(latent_model("sd"), lora=tiny_lora),
        Denoiser.load(latent_model("sd"), lora=file),
        Denoiser.load(latent_model("sd"), lora=file.parent),
        Denoiser.load(alone),
    ]
    assert not plain.adapted
    assert all(one.adapted for one in loaded)
    x, t = torch.randn(1, 4, 8, 8), torch.tensor([300])
    before, *after = [
        one.predict(x, t, one.condition(["disc, ada"])).detach() for one in (plain, *loaded)
    ]
    for output in after:
        torch.testing.assert_close(output, after[0], rtol=1e-4, atol=1e-5)
    assert (after[0] - before).abs().max() > 1e-4
    assert len({plain.digest, loaded[0].digest, loaded[1].digest}) == 3
    assert loaded[3].digest == loaded[0].digest
    assert loaded[3].settings_digest == loaded[0].settings_digest


def test_adapters_that_do_not_fit_say_why(
    latent_model: Make, tiny_lora: Path, tiny_ddpm: Path, tmp_path: Path
) -> None:
    with pytest.raises(DenoiserError, match="holds no LoRA"):
        Denoiser.load(latent_model("sd"), lora=tmp_path)
    with pytest.raises(DenoiserError, match=r"cannot be put on|not fit"):
        Denoiser.load(latent_model("dit"), lora=tiny_lora)
    with pytest.raises(DenoiserError, match=r"cannot be put on|not fit"):
        Denoiser.load(tiny_ddpm, lora=tiny_lora)
    file = tmp_path / "pytorch_lora_weights.safetensors"
    save_file({"unet.nothing.lora_A.weight": torch.zeros(2, 2)}, file)
    with pytest.raises(DenoiserError, match=r"cannot be put on|changes nothing"):
        Denoiser.load(latent_model("sd"), lora=file)
    with pytest.raises(DenoiserError, match="takes LoRAs in peft's layout alone"):
        Denoiser.load(latent_model("dit"), lora=file)
    (tmp_path / "torn").mkdir()
    shutil.copy(tiny_lora / "adapter_config.json", tmp_path / "torn")
    torn = (tiny_lora / "adapter_model.safetensors").read_bytes()[:200]
    (tmp_path / "torn" / "adapter_model.safetensors").write_bytes(torn)
    with pytest.raises(DenoiserError, match="cannot be put on the model"):
        Denoiser.load(latent_model("sd"), lora=tmp_path / "torn")


def test_half_precision_variants_are_read(latent_model: Make, tmp_path: Path) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(latent_model("sd"))
    pipeline.to(dtype=torch.float16).save_pretrained(tmp_path, variant="fp16")
    denoiser = Denoiser.load(tmp_path)
    assert {p.dtype for p in denoiser.network.parameters()} == {torch.float32}


@pytest.mark.parametrize(("kind", "file", "fields", "told"), [
    ("sd", "model_index.json", {"vae": [None, None]}, "has no vae, which a StableDiffusion"),
    ("sd", "model_index.json", {"text_encoder": [None, None]}, "has no text_encoder"),
    ("sdxl", "model_index.json", {"tokenizer_2": [None, None]}, "has no tokenizer_2"),
    ("sd", "unet/config.json", {"in_channels": 9}, "makes 4 channels, and its unet reads 9"),
    ("sd", "unet/config.json", {"cross_attention_dim": 32}, "8 wide, and its unet's cross"),
    ("sd", "unet/config.json", {"sample_size": None}, "has no sample_size"),
    ("sd3", "scheduler/scheduler_config.json", {"use_dynamic_shifting": True}, "dynamic shifting"),
])  # fmt: skip
def test_models_that_lack_something_say_what(
    latent_model: Make, tmp_path: Path, kind: str, file: str, fields: dict[str, Any], told: str
) -> None:
    model = tmp_path / "model"
    shutil.copytree(latent_model(kind), model)
    values = json.loads((model / file).read_text())
    (model / file).write_text(json.dumps(values | fields))
    with pytest.raises(DenoiserError, match=told):
        Denoiser.load(model)


def test_a_missing_folder_is_named(latent_model: Make, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(latent_model("sd"), model)
    shutil.rmtree(model / "vae")
    with pytest.raises(DenoiserError, match="lacks the folder vae"):
        Denoiser.load(model)


def test_weights_may_lie_in_one_file(latent_model: Make, tmp_path: Path) -> None:
    """Under the names of the first Stable Diffusion, beside the configurations' folders."""
    write_single_file(latent_model("sd"), tmp_path / "model")
    whole, parts = Denoiser.load(tmp_path / "model"), Denoiser.load(latent_model("sd"))
    assert whole.digest != parts.digest
    for name, p in whole.network.state_dict().items():
        assert torch.equal(p, parts.network.state_dict()[name]), name
    drawing = Drawing(3, 2, 2.0)
    first, second = (one.generate("disc, ada", drawing) for one in (whole, parts))
    assert first.tobytes() == second.tobytes()


def test_classes_without_a_single_file_say_so(latent_model: Make, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(latent_model("dit"), model)
    (model / "transformer" / WEIGHTS).rename(model / "model.safetensors")
    with pytest.raises(DenoiserError, match="a DiTPipeline is not read from a single file"):
        Denoiser.load(model)
