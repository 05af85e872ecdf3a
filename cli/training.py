"""What ``headwater train`` does: a small DDPM from nothing, or a LoRA on a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from attribution.errors import InputError
from attribution.image_set import ImageSet
from attribution.lora_training import LoraTraining, save_lora
from attribution.training import DdpmTraining, save_trained, training_images
from cli.errors import BadInputError

DDPM, LORA = ({field.name for field in fields(kind)} for kind in (DdpmTraining, LoraTraining))


def train_model(asked: dict[str, Any], on_step: Callable[[int, int], None]) -> int:
    """Train as the command line says; the number of images."""
    base = asked["base"]
    recipe = DDPM if base is None else LORA
    said = {name: asked[name] for name in DDPM | LORA if asked[name] is not None}
    if strange := said.keys() - recipe:
        option = f"--{min(strange).replace('_', '-')}"
        if base is None:
            raise BadInputError(f"{option} is of a LoRA: say --base too")
        raise BadInputError(f"{option} is the model's own: it goes without --base")
    if base is not None and asked["half_precision"]:
        raise BadInputError("--half-precision goes without --base")
    try:
        folder = ImageSet(asked["data"])
        out, seed, checkpoints = asked["out"], asked["seed"], asked["checkpoints"]
        if base is None:
            if "widths" in said:
                said["widths"] = _numbers(said["widths"])
            training = DdpmTraining(**said)
            images = training_images(folder, training.shape)
            save_trained(images, training, seed, out, checkpoints, asked["half_precision"], on_step)
        else:
            if "layers" in said:
                said["layers"] = tuple(said["layers"].split(","))
            save_lora(base, folder, LoraTraining(**said), seed, out, checkpoints, on_step)
    except InputError as error:
        raise BadInputError(str(error)) from error
    return len(folder)


def _numbers(widths: str) -> tuple[int, ...]:
    try:
        return tuple(int(width) for width in widths.split(","))
    except ValueError:
        raise BadInputError(f"--widths: whole numbers with commas, not {widths!r}") from None
