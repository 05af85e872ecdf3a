"""Training a model on each subset, several at a time, and asking it about the queries."""

from __future__ import annotations

import hashlib
import json
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from attribution.denoisers import Denoiser
from attribution.errors import InputError
from attribution.evaluation.ground_truth import GroundTruth, GroundTruthError
from attribution.evaluation.losses import simple_losses
from attribution.evaluation.processes import in_processes
from attribution.image_data.folder import METADATA
from attribution.image_set import ImageSet
from attribution.lora_training import Examples, LoraTraining, train_lora
from attribution.model_directory import base_of
from attribution.training import LORA, DdpmTraining, Record, train_ddpm, training_images

LAST_WORDS = 300


class RetrainingError(InputError):
    """A model could not be trained; the message says which and why."""


class Trainer(Protocol):
    """Trains a model on some images of a folder.  Sent to other processes: keep it small."""

    def describe(self) -> dict[str, Any]:
        """What decides the outcome beside images and seed; part of the protocol."""
        ...

    def train(self, folder: ImageSet, rows: Sequence[int], seed: int) -> Denoiser:
        """The model trained on ``rows`` of the folder."""
        ...


@dataclass(frozen=True)
class DdpmTrainer:
    """The built-in trainer of small pixel DDPMs."""

    training: DdpmTraining

    def describe(self) -> dict[str, Any]:
        """The training's settings."""
        return {"trainer": "ddpm", **self.training.to_dict()}

    def train(self, folder: ImageSet, rows: Sequence[int], seed: int) -> Denoiser:
        """Train in this process; nothing is written."""
        images = _all_images(folder.root, self.training.shape)
        return Denoiser(train_ddpm(images[list(rows)], self.training, seed))


@dataclass(frozen=True)
class LoraTrainer:
    """The built-in trainer of LoRAs on the model in ``base``."""

    training: LoraTraining
    base: Path

    def describe(self) -> dict[str, Any]:
        """The training's settings and the model's weights."""
        return {"trainer": LORA, **self.training.to_dict(), "base": _model(self.base).digest}

    def train(self, folder: ImageSet, rows: Sequence[int], seed: int) -> Denoiser:
        """Train in this process; nothing is written."""
        examples = _all_examples(self.base, folder.root, self.training.flips)
        denoiser = Denoiser.load(self.base)
        train_lora(denoiser, examples.only(torch.tensor(rows)), self.training, seed)
        return denoiser


def recorded_trainer(directory: Path) -> tuple[Trainer, int]:
    """The trainer and the seed that made a model of one of the built-in trainers."""
    record = Record.read(directory)
    if record.trainer != LORA:
        return DdpmTrainer(DdpmTraining.from_dict(record.settings)), record.seed
    base = base_of(directory)
    if base is None:
        raise RetrainingError(f"{directory} names no model that is here as its base")
    return LoraTrainer(LoraTraining.from_dict(record.settings), base), record.seed


@dataclass(frozen=True)
class CommandTrainer:
    """Any program that trains on an image folder and leaves a diffusers directory.

    ``command`` holds {data}, {out} and {seed}.  What it leaves may also be a LoRA that names the
    model it is on.
    """

    command: str
    device: str = "cpu"

    def __post_init__(self) -> None:
        absent = [name for name in ("{data}", "{out}", "{seed}") if name not in self.command]
        if absent:
            raise RetrainingError(f"the training command does not say {', '.join(absent)}")

    def describe(self) -> dict[str, Any]:
        """The command."""
        return {"trainer": "command", "command": self.command}

    def train(self, folder: ImageSet, rows: Sequence[int], seed: int) -> Denoiser:
        """Run the command over links to the images; its files go when the model is read."""
        with tempfile.TemporaryDirectory(prefix="headwater-") as scratch:
            data, out = Path(scratch) / "data", Path(scratch) / "model"
            _link(folder, rows, data)
            said = {"data": str(data), "out": str(out), "seed": str(seed)}
            words = [word.format(**said) for word in shlex.split(self.command)]
            try:
                subprocess.run(words, check=True, capture_output=True, text=True)
            except OSError as error:
                raise RetrainingError(f"{words[0]} cannot be run: {error.strerror}") from None
            except subprocess.CalledProcessError as error:
                told = " ".join((error.stderr or error.stdout or "nothing").split())
                raise RetrainingError(
                    f"{words[0]} ended with {error.returncode}: …{told[-LAST_WORDS:]}"
                ) from None
            return Denoiser.load(out, self.device)


@dataclass(frozen=True)
class Measurement:
    """How f is measured: the simple loss over so many timesteps and draws of noise."""

    timesteps: int = 50
    draws: int = 1


@dataclass(frozen=True)
class Plan:
    """Everything a process needs to train one model of a ground truth and to ask it."""

    trainer: Trainer
    data: Path
    queries: dict[str, Path]
    measurement: Measurement

    def protocol(self, **design: Any) -> dict[str, Any]:
        """What decides the ground truth's figures, as JSON; ``design`` says of the subsets."""
        folders = {"data": self.data} | self.queries
        return {
            "training": self.trainer.describe(),
            "measurement": asdict(self.measurement),
            "content": {name: _content(folder) for name, folder in folders.items()},
            "design": design,
        }

    def query_keys(self) -> list[str]:
        """``<set>/<key>`` of every query, set by set."""
        return [
            f"{name}/{sample.key}"
            for name, root in self.queries.items()
            for sample in ImageSet(root).samples
        ]

    def measure(self, rows: Sequence[int], seed: int) -> NDArray[np.float32]:
        """Train on ``rows`` and return the loss ``(Q,)`` of every query."""
        denoiser = self.trainer.train(ImageSet(self.data), rows, seed)
        asked = [
            simple_losses(denoiser, ImageSet(root), **asdict(self.measurement))
            for root in self.queries.values()
        ]
        return np.concatenate(asked)


def retrain(
    plan: Plan,
    truth: GroundTruth,
    path: Path,
    *,
    processes: int,
    threads: int = 1,
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Train and ask every model that ``truth`` lacks; ``path`` is written after each of them.

    ``on_progress`` is told how many are done, of how many.  An interruption loses the models that
    were being trained, one for each process.
    """
    missing = truth.missing()
    total = truth.measured.size
    report = on_progress or (lambda done, total: None)
    report(total - len(missing), total)
    jobs = {
        (j, s): partial(plan.measure, np.flatnonzero(truth.members[j]).tolist(), truth.seeds[s])
        for j, s in missing
    }
    for (j, s), losses in in_processes(jobs, processes, threads):
        if not np.isfinite(losses).all():
            raise RetrainingError(f"the model of subset {j}, seed {truth.seeds[s]} has diverged")
        truth.losses[j, s] = losses
        truth.write(path)
        report(int(truth.measured.sum()), total)


def planned(path: Path, fresh: GroundTruth) -> GroundTruth:
    """What ``path`` holds already of the ground truth ``fresh``, or ``fresh`` itself.

    A file with fewer subsets or seeds is taken over; one of another protocol is refused.
    """
    if not path.is_file():
        return fresh
    known = GroundTruth.read(path)
    if (known.protocol, known.train_keys, known.query_keys) != (
        fresh.protocol,
        fresh.train_keys,
        fresh.query_keys,
    ):
        differs = [
            name
            for name in sorted({*known.protocol, *fresh.protocol})
            if known.protocol.get(name) != fresh.protocol.get(name)
        ]
        raise GroundTruthError(
            f"{path} was measured otherwise ({', '.join(differs) or 'other images'});"
            " name another file"
        )
    subsets = min(len(known.members), len(fresh.members))
    if not np.array_equal(known.members[:subsets], fresh.members[:subsets]):
        raise GroundTruthError(f"{path} holds other subsets")
    if len(known.members) > subsets or set(known.seeds) - set(fresh.seeds):
        raise GroundTruthError(f"{path} holds more subsets or seeds than are asked for")
    for place, seed in enumerate(known.seeds):
        fresh.losses[:subsets, fresh.seeds.index(seed)] = known.losses[:, place]
    return fresh


@lru_cache(maxsize=1)
def _model(directory: Path) -> Denoiser:
    return Denoiser.load(directory)


@lru_cache(maxsize=1)
def _all_examples(base: Path, root: Path, flips: bool) -> Examples:
    return Examples.of(_model(base), ImageSet(root), flips=flips)


@lru_cache(maxsize=1)
def _all_images(root: Path, shape: tuple[int, int, int]) -> torch.Tensor:
    return training_images(ImageSet(root), shape)


def _content(root: Path) -> str:
    """A digest of keys and pixels: files that were only compressed anew are the same data."""
    folder, digest = ImageSet(root), hashlib.sha256()
    for i, sample in enumerate(folder.samples):
        image = folder.image(i)
        digest.update(f"{sample.key}\0{sample.text}\0{image.size}\0".encode())
        digest.update(image.tobytes())
    return digest.hexdigest()


def _link(folder: ImageSet, rows: Sequence[int], target: Path) -> None:
    lines = []
    for i in rows:
        sample = folder.samples[i]
        link = target / sample.key
        link.parent.mkdir(parents=True, exist_ok=True)
        try:
            link.hardlink_to((folder.root / sample.key).resolve(strict=True))
        except OSError:  # another file system, or no file of its own
            link.write_bytes(folder.bytes(i))
        said = replace(sample, place=None)
        fields = {name: value for name, value in asdict(said).items() if value is not None}
        lines.append(json.dumps({"file_name": fields.pop("key"), **fields}, ensure_ascii=False))
    (target / METADATA).write_text("\n".join(lines) + "\n", encoding="utf-8")
