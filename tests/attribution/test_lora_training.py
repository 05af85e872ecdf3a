"""Fine-tuning by a LoRA: repeatable, alike for subsets, nothing but the adapter learns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from attribution.denoisers import Denoiser
from attribution.evaluation.retraining import recorded_trainer
from attribution.image_set import ImageSet
from attribution.lora_training import Examples, LoraTraining, save_lora, train_lora
from attribution.training import Record, TrainingError

Make = Callable[[str], Path]
SMALL = LoraTraining(rank=2, alpha=4, epochs=4, batch_size=4, learning_rate=3e-3)


def adapter(denoiser: Denoiser) -> torch.Tensor:
    parts = denoiser.network.named_parameters()
    return torch.cat([p.detach().flatten() for name, p in parts if ".lora_" in name])


def base_weights(denoiser: Denoiser) -> torch.Tensor:
    parts = denoiser.network.named_parameters()
    return torch.cat([p.detach().flatten() for name, p in parts if ".lora_" not in name])


def trained(
    model: Path, folder: ImageSet, rows: list[int], seed: int = 0, **changed: Any
) -> Denoiser:
    denoiser = Denoiser.load(model)
    training = LoraTraining.from_dict(SMALL.to_dict() | changed)
    examples = Examples.of(denoiser, folder, flips=training.flips).only(torch.tensor(rows))
    train_lora(denoiser, examples, training, seed)
    return denoiser


@pytest.fixture(scope="module")
def folder(tiny_folder: Path) -> ImageSet:
    return ImageSet(tiny_folder)


@pytest.mark.parametrize("kind", ["sd", "sd3"])
def test_one_seed_gives_one_adapter_and_the_model_stays(
    latent_model: Make, folder: ImageSet, kind: str
) -> None:
    layers = {"layers": ("to_q", "to_v")}
    first, again, other = (
        trained(latent_model(kind), folder, [0, 3, 7], seed, **layers) for seed in (1, 1, 2)
    )
    assert torch.equal(adapter(first), adapter(again))
    assert not torch.equal(adapter(first), adapter(other))
    assert torch.equal(base_weights(first), base_weights(Denoiser.load(latent_model(kind))))
    assert first.adapted


def test_training_lowers_the_loss_of_what_it_sees(latent_model: Make, folder: ImageSet) -> None:
    denoiser = Denoiser.load(latent_model("sd"))
    examples = Examples.of(denoiser, folder, flips=False)
    t, noise = torch.arange(0, 996, 83), torch.randn(12, 4, 8, 8)

    @torch.no_grad()
    def loss() -> float:
        x_t = denoiser.add_noise(examples.x_0[0], noise, t)
        rows = torch.arange(12)
        residual = denoiser.predict(x_t, t, examples.condition.at(rows)) - noise
        return float((residual**2).mean())

    before = loss()
    train_lora(denoiser, examples, LoraTraining(4, 16, epochs=60, learning_rate=0.02), 0)
    assert loss() < 0.98 * before


def test_flips_mirror_the_picture(latent_model: Make, folder: ImageSet) -> None:
    denoiser = Denoiser.load(latent_model("sd"))
    both = Examples.of(denoiser, folder, flips=True)
    assert both.x_0.shape == (2, 12, 4, 8, 8)
    mirrored = denoiser.encode(folder.image(5).transpose(0))  # left to right
    torch.testing.assert_close(both.x_0[1, 5], mirrored)
    some = both.only(torch.tensor([5, 2]))
    assert torch.equal(some.x_0, both.x_0[:, [5, 2]])
    assert torch.equal(some.condition["states"], both.condition["states"][[5, 2, 12]])
    empty = denoiser.condition([None])["states"]
    torch.testing.assert_close(some.condition["states"][-1:], empty)


def test_a_saved_lora_is_a_model_of_its_own(
    latent_model: Make, folder: ImageSet, tmp_path: Path
) -> None:
    """Its directory names base and recipe: it loads, has checkpoints, and can be trained again."""
    steps = []
    save_lora(
        latent_model("sd"), folder, SMALL, 5, tmp_path / "lora", 3, lambda *done: steps.append(done)
    )
    assert steps == [(step, 12) for step in range(1, 13)]
    denoiser = Denoiser.load(tmp_path / "lora")
    assert denoiser.adapted
    assert [path.name for path in denoiser.checkpoints] == ["checkpoint-4", "checkpoint-8"]
    finished = adapter(denoiser)
    with denoiser.weights_of(denoiser.checkpoints[0]):
        earlier = adapter(denoiser)
        assert torch.equal(base_weights(denoiser), base_weights(Denoiser.load(latent_model("sd"))))
    assert not torch.equal(earlier, finished)
    assert torch.equal(adapter(denoiser), finished)
    file = load_file(tmp_path / "lora" / "checkpoint-4" / "adapter_model.safetensors")
    assert float(earlier.norm()) == pytest.approx(
        float(torch.cat([p.flatten() for p in file.values()]).norm())
    )

    trainer, seed = recorded_trainer(tmp_path / "lora")
    assert seed == 5
    again = trainer.train(folder, range(12), seed)
    assert torch.equal(adapter(again), finished)
    assert Record.read(tmp_path / "lora").trainer == "lora"
    part = trainer.train(folder, [0, 1, 2], seed)
    assert not torch.equal(adapter(part), finished)


@pytest.mark.parametrize(("fields", "told"), [
    ({"rank": 0}, "rank must be a whole number above zero"),
    ({"learning_rate": 2}, "learning_rate must lie between 0 and 1"),
    ({"caption_dropout": 1.5}, "caption_dropout must lie"),
    ({"layers": []}, "layers must name"),
    ({"precision": "float8"}, "precision must be"),
    ({"depth": 3}, "unknown fields: depth"),
])  # fmt: skip
def test_settings_out_of_range(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(TrainingError, match=told):
        LoraTraining.from_dict(fields)


def test_layers_that_are_not_there(latent_model: Make, folder: ImageSet) -> None:
    with pytest.raises(TrainingError, match="layers to_x: "):
        trained(latent_model("sd"), folder, [0], layers=["to_x"])


def test_a_lora_is_not_trained_on_another(
    latent_model: Make, folder: ImageSet, tmp_path: Path
) -> None:
    save_lora(latent_model("sd"), folder, SMALL, 5, tmp_path / "lora", 1)
    with pytest.raises(TrainingError, match="has a LoRA already"):
        save_lora(tmp_path / "lora", folder, SMALL, 5, tmp_path / "second", 1)
