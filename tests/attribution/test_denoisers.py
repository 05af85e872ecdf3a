"""Models as diffusers saves them: what is predicted, with which weights, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from attribution.denoisers import Denoiser, DenoiserError, Drawing
from attribution.families import Condition

WEIGHTS = "diffusion_pytorch_model.safetensors"


def weights(denoiser: Denoiser) -> dict[str, torch.Tensor]:
    return {name: p.clone() for name, p in denoiser.network.state_dict().items()}


def assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, p in found.items():
        assert torch.equal(p, expected[name]), name


def changed(source: Path, copy: Path, file: str, **fields: Any) -> Path:
    """A copy of a model with other values in one of its configuration files."""
    shutil.copytree(source, copy)
    values = json.loads((copy / file).read_text())
    (copy / file).write_text(json.dumps(values | fields))
    return copy


@pytest.fixture
def denoiser(trained_ddpm: Path) -> Denoiser:
    return Denoiser.load(trained_ddpm)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_noising_and_targets_follow_their_formulas(
    tiny_ddpm: Path, tmp_path: Path, prediction: str
) -> None:
    """x_t = √ᾱ x_0 + √(1-ᾱ) ε; the target is ε, or the velocity √ᾱ ε - √(1-ᾱ) x_0."""
    file = "scheduler/scheduler_config.json"
    model = changed(tiny_ddpm, tmp_path / "model", file, prediction_type=prediction)
    denoiser = Denoiser.load(model)
    settings = json.loads((model / file).read_text())
    betas = np.linspace(settings["beta_start"], settings["beta_end"], 1000)
    t = torch.tensor([0, 321, 999])
    bar = np.cumprod(1 - betas)[t][:, None, None, None]
    x_0, noise = torch.randn(3, 1, 8, 8), torch.randn(3, 1, 8, 8)
    x, e = x_0.numpy(), noise.numpy()
    x_t = np.sqrt(bar) * x + np.sqrt(1 - bar) * e
    np.testing.assert_allclose(denoiser.add_noise(x_0, noise, t), x_t, atol=1e-5)
    target = e if prediction == "epsilon" else np.sqrt(bar) * e - np.sqrt(1 - bar) * x
    np.testing.assert_allclose(denoiser.target(x_0, noise, t), target, atol=1e-5)


def test_a_learned_variance_is_left_out(tiny_ddpm: Path) -> None:
    config = Denoiser.load(tiny_ddpm).network.config
    unet = UNet2DModel.from_config(config, out_channels=2)
    denoiser = Denoiser(DDPMPipeline(unet, DDPMScheduler()))
    x_t, t = torch.randn(2, 1, 8, 8), torch.tensor([3, 400])
    predicted = denoiser.predict(x_t, t, Condition())
    torch.testing.assert_close(predicted, unet(x_t, t).sample[:, :1])


def test_conditions_belong_to_their_captions(tiny_model: Path) -> None:
    """Row by row, whatever is asked beside; no caption is the empty one; repeats are in order."""
    denoiser = Denoiser.load(tiny_model)
    both = denoiser.condition(["disc, ada", None])
    for row, caption in enumerate(["disc, ada", ""]):
        alone = denoiser.condition([caption])
        torch.testing.assert_close(both["states"][row], alone["states"][0])
        torch.testing.assert_close(both["pooled"][row], alone["pooled"][0])
    assert not torch.equal(both["pooled"][0], both["pooled"][1])
    thrice = both.repeat(3)
    assert torch.equal(thrice["pooled"], both["pooled"][[0, 1, 0, 1, 0, 1]])
    assert torch.equal(thrice["states"], both["states"][[0, 1, 0, 1, 0, 1]])


def test_drawing_is_ddim_by_hand(tiny_ddpm: Path) -> None:
    """x̂_0 = (x_t - √(1-ᾱ) ε_θ) / √ᾱ, clipped to [-1, 1]; then √ᾱ' x̂_0 + √(1-ᾱ') ε_θ.

    After the last step ᾱ' is 1.
    """
    denoiser = Denoiser.load(tiny_ddpm)
    bars = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), dim=0)
    x = torch.randn((1, 1, 8, 8), generator=torch.Generator().manual_seed(7)).double()
    expected = []
    for t in (750, 500, 250, 0):
        with torch.no_grad():
            e = denoiser.predict(x.float(), torch.tensor([t]), Condition()).double()
        bar, cleaner = bars[t], bars[t - 250] if t else torch.ones(())
        x_0 = ((x - (1 - bar).sqrt() * e) / bar.sqrt()).clamp(-1, 1)
        x = cleaner.sqrt() * x_0 + (1 - cleaner).sqrt() * e
        expected.append((t, x_0))
    found = []
    picture = denoiser.generate("", Drawing(7, steps=4), on_step=lambda _, step: found.append(step))
    for step, (t, x_0) in zip(found, expected, strict=True):
        assert step.timestep == t
        torch.testing.assert_close(step.predicted_x_0.double(), x_0, rtol=0, atol=1e-4)
    torch.testing.assert_close(found[-1].sample.double(), x, rtol=0, atol=1e-4)
    assert np.array_equal(picture, denoiser.decode(found[-1].sample)[0])
    with pytest.raises(DenoiserError, match="draws without text"):
        denoiser.generate("a disc", Drawing(7))


def test_pictures_survive_encoding(denoiser: Denoiser, tiny_model: Path) -> None:
    """A picture's pixels are its x_0: grey for one channel, RGB for three."""
    for model in (denoiser, Denoiser.load(tiny_model)):
        x_0 = torch.randint(0, 256, model.shape).float() / 127.5 - 1
        torch.testing.assert_close(model.encode(model.decode(x_0[None])[0]), x_0)


@given(st.integers(0, 30), st.integers(1, 31))
def test_checkpoints_are_spread_evenly_over_training(earlier: int, count: int) -> None:
    """In the order of training, the finished model last; gaps differ by one at most."""
    paths = [Path(f"checkpoint-{step}") for step in range(1, earlier + 1)]
    denoiser = Denoiser.__new__(Denoiser)
    denoiser.checkpoints = paths
    if count > earlier + 1:
        with pytest.raises(DenoiserError, match=rf"{count} checkpoints .* holds {earlier} beside"):
            denoiser.chosen_checkpoints(count)
        return
    chosen = denoiser.chosen_checkpoints(count)
    places = [[*paths, None].index(path) for path in chosen]
    gaps = np.diff([*places, places[0] + earlier + 1])
    assert (len(chosen), chosen[-1]) == (count, None)
    assert gaps.min() >= 1
    assert gaps.max() - gaps.min() <= 1


def test_checkpoints_lie_in_the_order_of_training(denoiser: Denoiser) -> None:
    names = [path.name for path in denoiser.checkpoints]
    assert names == ["checkpoint-10", "checkpoint-20", "checkpoint-100"]


def test_folders_that_name_no_step_are_no_checkpoints(trained_ddpm: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(trained_ddpm, model)
    (model / "checkpoint-10").rename(model / "checkpoint-best")
    found = [path.name for path in Denoiser.load(model).checkpoints]
    assert found == ["checkpoint-20", "checkpoint-100"]


def test_a_checkpoints_weights_are_lent(denoiser: Denoiser) -> None:
    """Inside they are the file's; afterwards the model's own again, error or not."""
    before = weights(denoiser)
    checkpoint = denoiser.checkpoints[0]
    with denoiser.weights_of(checkpoint):
        assert_equal(weights(denoiser), load_file(checkpoint / "unet" / WEIGHTS))
    assert_equal(weights(denoiser), before)
    with pytest.raises(KeyboardInterrupt), denoiser.weights_of(checkpoint):
        raise KeyboardInterrupt
    assert_equal(weights(denoiser), before)


def test_a_checkpoint_that_does_not_fit_changes_nothing(denoiser: Denoiser, tmp_path: Path) -> None:
    before = weights(denoiser)
    unet = tmp_path / "checkpoint-7" / "unet"
    unet.mkdir(parents=True)
    partial = {name: 2 * p for name, p in list(before.items())[:-1]}
    save_file(partial, unet / WEIGHTS)
    with (
        pytest.raises(DenoiserError, match="checkpoint-7 does not fit the model"),
        denoiser.weights_of(tmp_path / "checkpoint-7"),
    ):
        raise AssertionError("it was loaded")
    assert_equal(weights(denoiser), before)


@pytest.mark.parametrize("fault", ["cannot be loaded", "hold NaN or infinity in conv_in.bias"])
def test_a_checkpoint_that_is_damaged_is_named(
    denoiser: Denoiser, tmp_path: Path, fault: str
) -> None:
    before = weights(denoiser)
    file = tmp_path / "checkpoint-7" / "unet" / WEIGHTS
    file.parent.mkdir(parents=True)
    whole = weights(denoiser)
    whole["conv_in.bias"][0] = torch.inf
    save_file(whole, file)
    if fault == "cannot be loaded":
        file.write_bytes(file.read_bytes()[:100])
    with (
        pytest.raises(DenoiserError, match=rf"checkpoint-7 {fault}"),
        denoiser.weights_of(tmp_path / "checkpoint-7"),
    ):
        raise AssertionError("it was loaded")
    assert_equal(weights(denoiser), before)


def test_weights_that_are_not_numbers_are_refused(trained_ddpm: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(trained_ddpm, model)
    broken = load_file(model / "unet" / WEIGHTS)
    broken["conv_in.bias"][0] = torch.nan
    save_file(broken, model / "unet" / WEIGHTS)
    with pytest.raises(DenoiserError, match=r"NaN or infinity in conv_in\.bias"):
        Denoiser.load(model)


@pytest.mark.parametrize(("file", "field", "value", "told"), [
    ("unet/config.json", "sample_size", None, "no sample_size"),
    ("unet/config.json", "num_class_embeds", 3, r"lack class_embedding\.weight"),
    ("scheduler/scheduler_config.json", "prediction_type", "sample", "is not supported"),
    ("model_index.json", "_class_name", "FluxPipeline", "is not supported yet"),
    ("model_index.json", "_class_name", None, "is not supported yet"),
])  # fmt: skip
def test_unusable_models_say_why(
    tiny_ddpm: Path, tmp_path: Path, file: str, field: str, value: object, told: str
) -> None:
    model = changed(tiny_ddpm, tmp_path / "model", file, **{field: value})
    with pytest.raises(DenoiserError, match=told):
        Denoiser.load(model)


def test_folders_that_are_no_models_say_why(tmp_path: Path, tiny_ddpm: Path) -> None:
    with pytest.raises(DenoiserError, match=r"has no model_index\.json"):
        Denoiser.load(tmp_path)
    (tmp_path / "model_index.json").write_text("[]")
    with pytest.raises(DenoiserError, match="names no pipeline class"):
        Denoiser.load(tmp_path)
    with pytest.raises(DenoiserError, match="device nowhere cannot be used"):
        Denoiser.load(tiny_ddpm, "nowhere")


@pytest.mark.parametrize(("fields", "told"), [
    ({"in_channels": 4, "out_channels": 4}, "sees 4 channels"),
    ({"num_class_embeds": 3}, "labelled classes"),
])  # fmt: skip
def test_networks_of_other_kinds_are_refused(
    tiny_ddpm: Path, fields: dict[str, int], told: str
) -> None:
    unet = UNet2DModel.from_config(Denoiser.load(tiny_ddpm).network.config, **fields)
    with pytest.raises(DenoiserError, match=told):
        Denoiser(DDPMPipeline(unet, DDPMScheduler()))
