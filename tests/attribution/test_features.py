"""Reference test 5: a sample's features are its own, whatever it is computed with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from attribution.denoisers import Denoiser, DenoiserError, Drawing
from attribution.features import (
    Batch,
    FeatureError,
    Features,
    GradientFeatures,
    JourneyFeatures,
    RunningMean,
)
from attribution.image_folder import ImageFolder
from attribution.index.config import IndexConfig, Normalisation
from attribution.noise import noise_seed, sample_noise, select_timesteps


def batch_of(folder: ImageFolder, rows: list[int]) -> Batch:
    samples = [folder.samples[i] for i in rows]
    return Batch(
        [sample.key for sample in samples],
        [folder.image(i) for i in rows],
        [sample.text for sample in samples],
        [None] * len(rows),
    )


def extract(extractor: GradientFeatures, folder: ImageFolder, rows: list[int]) -> Features:
    return extractor.extract(batch_of(folder, rows))


@pytest.mark.parametrize("config", [
    IndexConfig(timesteps=2, projection_dim=300),
    IndexConfig(timesteps=2, projection_dim=300, output="square", normalisation="timestep"),
    IndexConfig(timesteps=2, projection_dim=300, output="dct", normalisation="elementwise"),
])  # fmt: skip
def test_batch_size_and_order_change_nothing(
    tiny_model: Path, tiny_folder: Path, config: IndexConfig
) -> None:
    folder = ImageFolder(tiny_folder)
    extractor = GradientFeatures(Denoiser.load(tiny_model), config)
    alone = [extract(extractor, folder, [i]) for i in range(7)]
    backwards = extract(extractor, folder, list(range(7))[::-1])
    for i in range(7):
        whole, one = backwards.gradients[6 - i], alone[i].gradients[0]
        assert (whole - one).norm() < 1e-4 * one.norm()
        assert torch.allclose(backwards.residuals[6 - i], alone[i].residuals[0], rtol=1e-5)


def test_unconditional_grey_model_reads_colour_pictures(tiny_ddpm: Path, tiny_folder: Path) -> None:
    folder = ImageFolder(tiny_folder)
    extractor = GradientFeatures(Denoiser.load(tiny_ddpm), IndexConfig(timesteps=2))
    features = extract(extractor, folder, [0, 1])
    assert features.gradients.shape == (2, 1, 4, extractor.projector.size)
    assert torch.isfinite(features.gradients).all()


@pytest.mark.parametrize("normalisation", ["none", "timestep", "elementwise"])
def test_normalisations_against_their_formulas(
    normalisation: Normalisation, rng: np.random.Generator
) -> None:
    g = rng.normal(size=(5, 2, 3, 4))
    mean = RunningMean(normalisation)
    for g_t in g:
        mean.add(torch.from_numpy(g_t))
    divisor = {
        "none": 1.0,
        "timestep": np.linalg.norm(g, axis=-1, keepdims=True),
        "elementwise": np.sqrt((g**2).sum(axis=0)),
    }[normalisation]
    np.testing.assert_allclose(mean.result().numpy(), (g / divisor).mean(axis=0), rtol=1e-5)


def test_noise_belongs_to_key_timestep_draw_and_seed() -> None:
    base = sample_noise(["a", "b"], 10, (3, 4), seed=0)
    assert torch.equal(sample_noise(["b"], 10, (3, 4), seed=0)[0], base[1])
    others = [noise_seed("a", 10, 0, 0), noise_seed("a", 11, 0, 0), noise_seed("a", 10, 1, 0),
              noise_seed("a", 10, 0, 1), noise_seed("b", 10, 0, 0)]  # fmt: skip
    assert len(set(others)) == len(others)


@given(st.integers(1, 1000))
def test_uniform_timesteps_are_distinct_and_spread(count: int) -> None:
    steps = select_timesteps(count, "uniform")
    assert len(set(steps)) == count
    assert steps == sorted(steps)
    assert steps[0] == 0
    assert steps[-1] < 1000
    assert select_timesteps(count, "cumulative") == list(range(count))


def tensors(extractor: GradientFeatures, folder: ImageFolder, rows: list[int]) -> torch.Tensor:
    return torch.stack([extractor.denoiser.encode(folder.image(i)) for i in rows])


def test_draws_are_averaged_at_their_timestep(tiny_model: Path, tiny_folder: Path) -> None:
    folder = ImageFolder(tiny_folder)
    config = IndexConfig(timesteps=2, projection_dim=300, draws=3, average_timesteps=False)
    extractor = GradientFeatures(Denoiser.load(tiny_model), config)
    batch, x_0 = batch_of(folder, [0, 5]), tensors(extractor, folder, [0, 5])
    found = extractor.extract(batch)
    condition = extractor.denoiser.condition(batch.captions)
    assert found.gradients.shape[:3] == (2, 2, 4)
    for group, t in enumerate(extractor.timesteps):
        g, r, probed = (
            part.mean(dim=0)
            for part in extractor.at_once(batch.keys, [(t, d, x_0) for d in range(3)], condition)
        )
        torch.testing.assert_close(found.gradients[:, group], g, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.residuals[:, group], r, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.probed_residuals[:, group], probed, rtol=1e-4, atol=1e-4)


def test_checkpoints_are_groups_and_leave_no_trace(trained_ddpm: Path, tiny_folder: Path) -> None:
    folder = ImageFolder(tiny_folder)
    denoiser = Denoiser.load(trained_ddpm)
    before = {name: p.clone() for name, p in denoiser.network.state_dict().items()}
    config = IndexConfig(output="loss", timesteps=2, projection_dim=300, checkpoints=3)
    found = extract(GradientFeatures(denoiser, config), folder, [0, 1]).gradients
    assert [path and path.name for path in denoiser.chosen_checkpoints(3)] == [
        "checkpoint-10",
        "checkpoint-100",
        None,
    ]
    single = IndexConfig(output="loss", timesteps=2, projection_dim=300)
    finished = extract(GradientFeatures(denoiser, single), folder, [0, 1]).gradients
    torch.testing.assert_close(found[:, 2:], finished)
    assert (found[:, 0] - found[:, 1]).abs().max() > 0
    with denoiser.weights_of(denoiser.checkpoints[0]):
        early = extract(GradientFeatures(denoiser, single), folder, [0, 1]).gradients
    torch.testing.assert_close(early[:, 0], found[:, 0])
    for name, p in denoiser.network.state_dict().items():
        assert torch.equal(p, before[name])
    with pytest.raises(ValueError, match="checkpoint-<step>/unet"):
        GradientFeatures(denoiser, IndexConfig(output="loss", timesteps=2, checkpoints=5))


def test_gradients_that_are_not_finite_name_their_image(tiny_ddpm: Path, tiny_folder: Path) -> None:
    folder, denoiser = ImageFolder(tiny_folder), Denoiser.load(tiny_ddpm)
    extractor = GradientFeatures(denoiser, IndexConfig(timesteps=1, projection_dim=300))
    with torch.no_grad():
        denoiser.pipeline.unet.conv_out.weight.fill_(torch.inf)
    with pytest.raises(FeatureError, match=r"ada/cross\.png"):
        extract(extractor, folder, [0, 1])


def test_journey_follows_the_drawing(tiny_model: Path) -> None:
    """Features are the mean over the steps of gradients at x̂_0, noised at the step's timestep."""
    denoiser = Denoiser.load(tiny_model)
    config = IndexConfig(output="loss", projection_dim=300)
    gradients = GradientFeatures(denoiser, config)
    drawing = Drawing(seed=4, steps=3, guidance_scale=1.5)
    path: list[tuple[int, torch.Tensor]] = []
    image = denoiser.generate(
        "disc, ada", drawing, on_step=lambda _, s: path.append((s.timestep, s.predicted_x_0))
    )
    assert [t for t, _ in path] == sorted((t for t, _ in path), reverse=True)
    batch = Batch(["query"], [image], ["disc, ada"], [4])
    found = JourneyFeatures(gradients, drawing).extract(batch).gradients
    by_hand = [
        gradients.at_once(["query"], [(t, 0, x)], denoiser.condition(["disc, ada"]))[0][0]
        for t, x in path
    ]
    expected = torch.stack(by_hand).mean(dim=0)[:, None]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    with pytest.raises(FeatureError, match="query has no seed"):
        JourneyFeatures(gradients).extract(Batch(["query"], [image], [None], [None]))
    white = Image.new("RGB", image.size, "white")
    with pytest.raises(FeatureError, match="not what the model draws from seed 4 in 3 steps"):
        JourneyFeatures(gradients, drawing).extract(Batch(["q"], [white], ["disc, ada"], [4]))


def test_weights_that_are_not_numbers_are_refused(trained_ddpm: Path) -> None:
    denoiser = Denoiser.load(trained_ddpm)
    with torch.no_grad():
        denoiser.pipeline.unet.conv_in.bias[0] = torch.nan
    with pytest.raises(DenoiserError, match=r"NaN or infinity in conv_in\.bias"):
        Denoiser(denoiser.pipeline)


def test_a_checkpoint_that_does_not_fit_changes_nothing(trained_ddpm: Path, tmp_path: Path) -> None:
    denoiser = Denoiser.load(trained_ddpm)
    before = {name: p.clone() for name, p in denoiser.network.state_dict().items()}
    unet = tmp_path / "checkpoint-7" / "unet"
    unet.mkdir(parents=True)
    partial = {name: 2 * p for name, p in list(before.items())[:-1]}
    save_file(partial, unet / "diffusion_pytorch_model.safetensors")
    with (
        pytest.raises(DenoiserError, match="checkpoint-7 does not fit the model"),
        denoiser.weights_of(tmp_path / "checkpoint-7"),
    ):
        raise AssertionError("it was loaded")
    for name, p in denoiser.network.state_dict().items():
        assert torch.equal(p, before[name])


def test_folders_that_name_no_step_are_no_checkpoints(trained_ddpm: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(trained_ddpm, model)
    (model / "checkpoint-10").rename(model / "checkpoint-best")
    found = [path.name for path in Denoiser.load(model).checkpoints]
    assert found == ["checkpoint-20", "checkpoint-100"]


def test_unusable_models_say_why(tiny_ddpm: Path, tmp_path: Path) -> None:
    for number, (file, field, value, told) in enumerate(
        [
            ("unet", "sample_size", None, "no sample_size"),
            ("unet", "num_class_embeds", 3, r"lack class_embedding\.weight"),
            ("scheduler", "prediction_type", "sample", "is not supported"),
        ]
    ):
        model = tmp_path / str(number)
        shutil.copytree(tiny_ddpm, model)
        name = "config.json" if file == "unet" else "scheduler_config.json"
        config = json.loads((model / file / name).read_text())
        (model / file / name).write_text(json.dumps(config | {field: value}))
        with pytest.raises(DenoiserError, match=told):
            Denoiser.load(model)
    labelled = UNet2DModel.from_config(Denoiser.load(tiny_ddpm).network.config, num_class_embeds=3)
    with pytest.raises(DenoiserError, match="labelled classes"):
        Denoiser(DDPMPipeline(labelled, DDPMScheduler()))
