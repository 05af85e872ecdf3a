"""Training a small pixel DDPM: what retraining on subsets, and the studies, train.

The recipe is the paper's (Appendix F.1): the simple loss, linear noise schedule, AdamW, warm-up
over a tenth of the steps, then a cosine; timesteps are stratified over the batch.  ``descend`` is
that recipe for any network; ``lora_training.py`` follows it too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args

import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from safetensors.torch import save

from attribution.errors import InputError
from attribution.image_set import ImageSet, pixels
from attribution.index.manifest import write_atomically

Precision = Literal["float32", "bfloat16"]
Settings = TypeVar("Settings")

RECORD = "training.json"
DDPM, LORA = "ddpm", "lora"
WARM_UP = 0.1  # of all steps
WEIGHT_DECAY = 1e-6
LARGEST_GRADIENT = 1.0


class TrainingError(InputError):
    """The settings or the data cannot be trained with; the message says why."""


@dataclass(frozen=True)
class DdpmTraining:
    """How a model is trained: everything but the images and the seed.

    ``widths`` are the channels of the U-Net's levels.  With ``bfloat16`` its convolutions are
    computed in that precision, and the weights kept in float32.
    """

    image_size: int = 16
    channels: int = 1
    widths: tuple[int, ...] = (16, 32, 32)
    epochs: int = 60
    batch_size: int = 64
    learning_rate: float = 2e-3
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))
        for name in ("image_size", "epochs", "batch_size"):
            natural(name, getattr(self, name))
        for width in self.widths:
            natural("widths", width)
            if width % 4:
                raise TrainingError(f"widths must be multiples of 4, not {width}")
        if not self.widths or self.image_size % 2 ** (len(self.widths) - 1):
            raise TrainingError(
                f"{len(self.widths)} levels of widths do not fit an image_size of {self.image_size}"
            )
        if self.channels not in (1, 3):
            raise TrainingError(f"channels must be 1 or 3, not {self.channels!r}")
        fraction("learning_rate", self.learning_rate)
        if self.precision not in get_args(Precision):
            raise TrainingError(f"precision must be float32 or bfloat16, not {self.precision!r}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DdpmTraining:
        """Read settings, refusing unknown fields."""
        return read_settings(cls, values)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; ``from_dict`` reads it back."""
        return asdict(self) | {"widths": list(self.widths)}

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return (self.channels, self.image_size, self.image_size)

    def steps(self, images: int) -> int:
        """The steps that ``epochs`` over so many images take."""
        return max(1, self.epochs * images // self.batch_size)


def training_images(folder: ImageSet, shape: tuple[int, int, int]) -> torch.Tensor:
    """All pixels of a folder in [-1, 1], ``(n, C, H, W)``."""
    return torch.stack([pixels(folder.image(i), shape) for i in range(len(folder))])


def train_ddpm(
    images: torch.Tensor,
    training: DdpmTraining,
    seed: int,
    on_step: Callable[[int, UNet2DModel], None] | None = None,
) -> DDPMPipeline:
    """Train from random weights on ``images`` ``(n, C, H, W)``.

    ``seed`` decides the first weights, the order of the images and all noise, so that two subsets
    trained under one seed differ by their images alone.  ``on_step`` is told the number of steps
    done and the network.
    """
    if not len(images):
        raise TrainingError("there are no images to train on")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = build_unet(training)
    unet.train()
    schedule: Any = DDPMScheduler(num_train_timesteps=1000)

    def loss(draw: Draw) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=training.precision == "bfloat16"):
            noisy = schedule.add_noise(images[draw.rows], draw.noise, draw.t)
            predicted: torch.Tensor = unet(noisy, draw.t).sample
        return ((predicted.float() - draw.noise) ** 2).mean()

    descend(
        list(unet.parameters()),
        loss,
        images.shape,
        Descent(training.steps(len(images)), training.batch_size, training.learning_rate),
        torch.Generator().manual_seed(seed),
        on_step=lambda step: on_step(step, unet) if on_step else None,
    )
    return DDPMPipeline(unet.eval(), schedule)


@dataclass(frozen=True)
class Descent:
    """How long and how fast: the learning rate is that at its highest."""

    steps: int
    batch_size: int
    learning_rate: float
    timesteps: int = 1000


@dataclass(frozen=True)
class Draw:
    """What one step looks at: the images' ``rows``, their timesteps ``t`` and their ``noise``."""

    rows: torch.Tensor
    t: torch.Tensor
    noise: torch.Tensor


def descend(
    parameters: list[torch.nn.Parameter],
    loss: Callable[[Draw], torch.Tensor],
    shape: Sequence[int],
    descent: Descent,
    generator: torch.Generator,
    on_step: Callable[[int], None] | None = None,
) -> None:
    """Follow the gradient of ``loss``; ``shape`` is that of all images ``(n, C, H, W)``.

    Every image is seen once before any is seen again.  ``on_step`` is told the steps done.
    """
    optimizer = torch.optim.AdamW(parameters, lr=1.0, weight_decay=WEIGHT_DECAY)
    batch, timesteps = descent.batch_size, descent.timesteps
    waiting = torch.empty(0, dtype=torch.long)
    for step in range(descent.steps):
        while len(waiting) < batch:
            waiting = torch.cat([waiting, torch.randperm(shape[0], generator=generator)])
        rows, waiting = waiting[:batch], waiting[batch:]
        strata = (torch.arange(batch) + torch.rand(batch, generator=generator)) / batch
        t = (strata * timesteps).long().clamp(max=timesteps - 1)
        noise = torch.randn((batch, *shape[1:]), generator=generator)
        for group in optimizer.param_groups:
            group["lr"] = descent.learning_rate * _rate(step, descent.steps)
        loss(Draw(rows, t, noise)).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, LARGEST_GRADIENT)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if on_step:
            on_step(step + 1)


def build_unet(training: DdpmTraining) -> UNet2DModel:
    """A U-Net with random weights: convolutions only, one residual block a level."""
    levels = len(training.widths)
    return UNet2DModel(
        sample_size=training.image_size,
        in_channels=training.channels,
        out_channels=training.channels,
        block_out_channels=training.widths,
        down_block_types=("DownBlock2D",) * levels,
        up_block_types=("UpBlock2D",) * levels,
        layers_per_block=1,
        norm_num_groups=4,
        add_attention=False,
    )


def save_trained(
    images: torch.Tensor,
    training: DdpmTraining,
    seed: int,
    directory: Path,
    checkpoints: int = 4,
    half_precision: bool = False,
    on_step: Callable[[int, int], None] | None = None,
) -> None:
    """Train, and write a diffusers directory with ``checkpoints`` states evenly over training.

    The finished model is the last of them; ``half_precision`` halves the files.  ``on_step`` is
    told the steps done, of how many.
    """
    dtype = torch.float16 if half_precision else torch.float32
    steps = training.steps(len(images))
    kept = {round(steps * i / checkpoints) for i in range(1, checkpoints)}

    def at_step(step: int, unet: UNet2DModel) -> None:
        if step in kept:
            file = directory / f"checkpoint-{step}" / "unet" / "diffusion_pytorch_model.safetensors"
            file.parent.mkdir(parents=True, exist_ok=True)
            weights = {n: p.to(dtype).contiguous() for n, p in unet.state_dict().items()}
            write_atomically(file, save(weights))
        if on_step:
            on_step(step, steps)

    pipeline = train_ddpm(images, training, seed, at_step)
    torch.nn.Module.to(pipeline.unet, dtype)  # diffusers' own warns of what does not concern us
    pipeline.save_pretrained(directory)
    write_record(directory, DDPM, training.to_dict(), seed)


def write_record(directory: Path, trainer: str, settings: dict[str, Any], seed: int) -> None:
    """Say beside a model how it was trained."""
    record = {"trainer": trainer, "seed": seed, "training": settings}
    write_atomically(directory / RECORD, (json.dumps(record, indent=2) + "\n").encode())


@dataclass(frozen=True)
class Record:
    """How a model was trained: by which of the built-in trainers, its settings and the seed."""

    trainer: str
    settings: dict[str, Any]
    seed: int

    @classmethod
    def read(cls, directory: Path) -> Record:
        """What ``write_record`` wrote."""
        try:
            record = json.loads((directory / RECORD).read_text(encoding="utf-8"))
            trainer, settings = record["trainer"], record["training"]
            if trainer not in (DDPM, LORA):
                raise ValueError(f"it speaks of a trainer {trainer!r}")
            return cls(trainer, dict(settings), int(record["seed"]))
        except FileNotFoundError:
            raise TrainingError(
                f"{directory} has no {RECORD} that says how it was trained"
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(
                f"{directory / RECORD} does not say how to train: {error}"
            ) from None


def _rate(step: int, steps: int) -> float:
    warmed = min(1.0, (step + 1) / max(1.0, WARM_UP * steps))
    return warmed * 0.5 * (1 + math.cos(math.pi * step / steps))


def read_settings(kind: type[Settings], values: Mapping[str, Any]) -> Settings:
    """A training's settings, unknown fields refused."""
    unknown = set(values) - {field.name for field in fields(cast(Any, kind))}
    if unknown:
        raise TrainingError(f"unknown fields: {', '.join(sorted(unknown))[:200]}")
    try:
        return kind(**values)
    except TypeError as error:
        raise TrainingError(f"the training's settings cannot be read: {error}") from None


def fraction(name: str, value: object) -> None:
    """Refuse what does not lie between 0 and 1."""
    if not isinstance(value, int | float) or not 0 < value < 1:
        raise TrainingError(f"{name} must lie between 0 and 1, not {value!r}")


def natural(name: str, value: object) -> None:
    """Refuse what is no whole number above zero."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise TrainingError(f"{name} must be a whole number above zero, not {value!r}")
