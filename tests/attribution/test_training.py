"""The built-in trainer: repeatable, alike for subsets but for their images, and it learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from attribution.denoisers import Denoiser
from attribution.image_set import ImageSet
from attribution.training import (
    DdpmTraining,
    Record,
    TrainingError,
    save_trained,
    train_ddpm,
    training_images,
)

SMALL = DdpmTraining(image_size=8, widths=(8, 8), epochs=3, batch_size=4)


def weights(unet: Any) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in unet.parameters()])


@pytest.fixture
def images(tiny_folder: Path) -> torch.Tensor:
    return training_images(ImageSet(tiny_folder), SMALL.shape)


def test_one_seed_gives_one_model(images: torch.Tensor) -> None:
    first, again = (weights(train_ddpm(images, SMALL, 3).unet) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, weights(train_ddpm(images, SMALL, 4).unet))


def test_training_leaves_the_callers_random_numbers_alone(images: torch.Tensor) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train_ddpm(images, SMALL, 3)
    assert torch.equal(torch.rand(3), expected)


def test_subsets_begin_with_the_same_weights(images: torch.Tensor) -> None:
    firsts = []
    for rows in (slice(0, 6), slice(6, 12)):
        seen: list[torch.Tensor] = []
        still = DdpmTraining(image_size=8, widths=(8, 8), epochs=1, learning_rate=1e-12)
        train_ddpm(images[rows], still, 3, lambda step, unet, s=seen: s.append(weights(unet)))
        firsts.append(seen[0])
    assert torch.allclose(*firsts, atol=1e-9)


def test_every_image_is_seen_in_every_epoch(images: torch.Tensor) -> None:
    assert SMALL.steps(12) == 9
    steps: list[int] = []
    train_ddpm(images, SMALL, 0, lambda step, unet: steps.append(step))
    assert steps == list(range(1, 10))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_loss_falls(images: torch.Tensor, precision: Any) -> None:
    training = DdpmTraining(
        image_size=8, widths=(8, 16), epochs=60, batch_size=12, precision=precision
    )

    def loss(epochs: int) -> float:
        shorter = DdpmTraining.from_dict(training.to_dict() | {"epochs": epochs})
        denoiser = Denoiser(train_ddpm(images, shorter, 0))
        generator = torch.Generator().manual_seed(9)
        noise = torch.randn(images.shape, generator=generator)
        t = torch.arange(0, 960, 80)
        with torch.no_grad():
            predicted = denoiser.network(denoiser.add_noise(images, noise, t), t).sample
        return float(((predicted - noise) ** 2).mean())

    assert loss(60) < 0.6 * loss(1)


@pytest.mark.parametrize("half", [False, True])
def test_what_is_saved_can_be_attributed_and_trained_again(
    images: torch.Tensor, half: bool, tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    save_trained(
        images, SMALL, 1, tmp_path, 3, half, lambda step, steps: told.append((step, steps))
    )
    denoiser = Denoiser.load(tmp_path)
    assert [path.name for path in denoiser.checkpoints] == ["checkpoint-3", "checkpoint-6"]
    assert told[-1] == (9, 9)
    record = Record.read(tmp_path)
    again = weights(train_ddpm(images, DdpmTraining.from_dict(record.settings), record.seed).unet)
    assert torch.allclose(weights(denoiser.network), again, atol=1e-3 if half else 0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("epochs", True),
        ("batch_size", 1.5),
        ("widths", ()),
        ("widths", (8,) * 6),
        ("widths", (6,)),
        ("channels", 2),
        ("image_size", -8),
        ("learning_rate", 0),
        ("learning_rate", "fast"),
        ("precision", "float8"),
        ("dropout", 0.1),
    ],
)
def test_settings_that_cannot_be_are_named(field: str, value: Any) -> None:
    with pytest.raises(TrainingError, match=field):
        DdpmTraining.from_dict({"image_size": 16, field: value})


def test_nothing_cannot_be_trained_on(images: torch.Tensor) -> None:
    with pytest.raises(TrainingError, match="no images"):
        train_ddpm(images[:0], SMALL, 0)


@pytest.mark.parametrize("content", [None, "{", "[]", '{"trainer": "lora"}', '{"trainer": "ddpm"}'])
def test_a_model_without_a_readable_record_is_named(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "training.json").write_text(content)
    with pytest.raises(TrainingError, match=r"training\.json"):
        Record.read(tmp_path)
