"""Fine-tuning a model by a LoRA: how people teach a Stable Diffusion their pictures.

The recipe is the paper's for ArtBench (Appendix F.1): the simple loss over latents, AdamW, warm-up
and cosine, random horizontal flips.  Nothing but the adapter's weights changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from os.path import relpath
from pathlib import Path
from typing import Any, get_args

import torch
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from safetensors.torch import save
from torchvision.transforms.functional import hflip

from attribution.adapters import PREFIX
from attribution.denoisers import Denoiser
from attribution.families import Condition
from attribution.image_set import ImageSet
from attribution.index.manifest import write_atomically
from attribution.model_directory import ADAPTER_WEIGHTS
from attribution.training import (
    LORA,
    Descent,
    Draw,
    Precision,
    TrainingError,
    descend,
    fraction,
    natural,
    read_settings,
    write_record,
)

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")


@dataclass(frozen=True)
class LoraTraining:
    """How a LoRA is trained: everything but the model, the images and the seed.

    ``layers`` are the endings of the adapted layers' names; ``alpha`` is what the adapter's product
    is multiplied with, in units of 1 / ``rank``.  ``caption_dropout`` of the captions are empty, as
    guidance wants it.
    """

    rank: int = 16
    alpha: int = 16
    layers: tuple[str, ...] = ATTENTION
    epochs: int = 100
    batch_size: int = 64
    learning_rate: float = 3e-4
    flips: bool = True
    caption_dropout: float = 0.1
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        for name in ("rank", "alpha", "epochs", "batch_size"):
            natural(name, getattr(self, name))
        fraction("learning_rate", self.learning_rate)
        if self.caption_dropout != 0:
            fraction("caption_dropout", self.caption_dropout)
        if not self.layers or not all(isinstance(layer, str) and layer for layer in self.layers):
            raise TrainingError("layers must name the layers that are adapted")
        if self.precision not in get_args(Precision):
            raise TrainingError(f"precision must be float32 or bfloat16, not {self.precision!r}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LoraTraining:
        """Read settings, refusing unknown fields."""
        return read_settings(cls, values)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; ``from_dict`` reads it back."""
        return asdict(self) | {"layers": list(self.layers)}

    def steps(self, images: int) -> int:
        """The steps that ``epochs`` over so many images take."""
        return max(1, self.epochs * images // self.batch_size)


@dataclass(frozen=True)
class Examples:
    """What a model is fine-tuned on: x_0 ``(views, n, C, H, W)``, and what it is told of each.

    The second view, where there is one, is the mirrored picture.  The condition's last row is that
    of no caption.
    """

    x_0: torch.Tensor
    condition: Condition

    @classmethod
    def of(cls, denoiser: Denoiser, folder: ImageSet, *, flips: bool) -> Examples:
        """The pictures and captions of a folder, encoded once."""
        if not len(folder):
            raise TrainingError("there are no images to train on")
        views = []
        for mirror in (False, True) if flips else (False,):
            pictures = (folder.image(i) for i in range(len(folder)))
            views.append(
                torch.stack([denoiser.encode(hflip(p) if mirror else p) for p in pictures])
            )
        told = denoiser.condition([*[sample.text for sample in folder.samples], None])
        return cls(torch.stack(views), told)

    def only(self, rows: torch.Tensor) -> Examples:
        """Some of the images."""
        last = torch.tensor([self.x_0.shape[1]])
        return Examples(self.x_0[:, rows], self.condition.at(torch.cat([rows, last])))


def add_adapter(denoiser: Denoiser, training: LoraTraining, seed: int) -> list[torch.nn.Parameter]:
    """Put a fresh LoRA, which changes nothing yet, on the network; its weights alone can learn."""
    config = LoraConfig(
        r=training.rank, lora_alpha=training.alpha, target_modules=list(training.layers)
    )
    denoiser.network.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            inject_adapter_in_model(config, denoiser.network)
        except ValueError as error:
            raise TrainingError(f"layers {', '.join(training.layers)}: {error}") from None
    denoiser.adapted = True
    return [p for name, p in denoiser.network.named_parameters() if ".lora_" in name]


def train_lora(
    denoiser: Denoiser,
    examples: Examples,
    training: LoraTraining,
    seed: int,
    on_step: Callable[[int], None] | None = None,
) -> None:
    """Fine-tune ``denoiser``, a model without a LoRA, which has one afterwards.

    ``seed`` decides the adapter's first weights, the order of the images and all noise.
    """
    parameters = add_adapter(denoiser, training, seed)
    views, images = examples.x_0.shape[:2]
    generator = torch.Generator().manual_seed(seed)

    def loss(draw: Draw) -> torch.Tensor:
        batch = len(draw.rows)
        view = torch.randint(views, (batch,), generator=generator)
        silent = torch.rand(batch, generator=generator) < training.caption_dropout
        told = torch.where(silent, images, draw.rows)
        x_0 = examples.x_0[view, draw.rows].to(denoiser.device)
        noise, t = draw.noise.to(denoiser.device), draw.t.to(denoiser.device)
        bfloat16 = training.precision == "bfloat16"
        with torch.autocast(denoiser.device.type, dtype=torch.bfloat16, enabled=bfloat16):
            x_t = denoiser.add_noise(x_0, noise, t)
            predicted = denoiser.predict(x_t, t, examples.condition.at(told))
        return ((predicted.float() - denoiser.target(x_0, noise, t)) ** 2).mean()

    descend(
        parameters,
        loss,
        examples.x_0.shape[1:],
        Descent(
            training.steps(images),
            training.batch_size,
            training.learning_rate,
            len(denoiser.noise_levels),
        ),
        generator,
        on_step,
    )


def save_lora(
    base: Path,
    folder: ImageSet,
    training: LoraTraining,
    seed: int,
    directory: Path,
    checkpoints: int = 4,
    on_step: Callable[[int, int], None] | None = None,
) -> None:
    """Fine-tune the model in ``base`` and write the LoRA in peft's layout, naming its base.

    ``checkpoints`` states, evenly over training, are kept; the finished LoRA is the last of them.
    """
    denoiser = Denoiser.load(base)
    if denoiser.adapted:
        raise TrainingError(f"{base} has a LoRA already: name the model that it is on")
    examples = Examples.of(denoiser, folder, flips=training.flips)
    steps = training.steps(len(folder))
    kept = {round(steps * i / checkpoints) for i in range(1, checkpoints)}

    def at_step(step: int) -> None:
        if step in kept:
            _write_weights(denoiser, directory / f"checkpoint-{step}")
        if on_step:
            on_step(step, steps)

    train_lora(denoiser, examples, training, seed, at_step)
    _write_weights(denoiser, directory)
    config = LoraConfig(
        r=training.rank,
        lora_alpha=training.alpha,
        target_modules=list(training.layers),
        base_model_name_or_path=relpath(base, directory),
    )
    config.save_pretrained(directory)
    write_record(directory, LORA, training.to_dict(), seed)


def _write_weights(denoiser: Denoiser, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    weights = {
        PREFIX + name: p.contiguous()
        for name, p in get_peft_model_state_dict(denoiser.network).items()
    }
    write_atomically(directory / ADAPTER_WEIGHTS, save(weights))
