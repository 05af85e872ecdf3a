"""The data and the model of the Emoji studies: two artists' drawings of the same things, 16 × 16.

``python benchmarks/emoji.py build FOLDER`` writes FOLDER/train and FOLDER/validation with the
creators and licences of the drawings: those of the demo, and of every other kind of emoji.
``python benchmarks/emoji.py train --data … --out … --seed …`` trains the demo's conditional model,
smaller, on what a folder holds: once for the studies, and for each subset of their ground truth.
``python benchmarks/emoji.py draw MODEL FOLDER`` draws a quarter of the training captions.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attribution.denoisers import Denoiser, Drawing
from attribution.evaluation.generated import draw_folder
from attribution.image_set import ImageSet
from demo.dataset import shared_emoji, write
from demo.train import Trainer, build_pipeline

SIZE = 16
TRAIN, VALIDATION = 400, 50  # emoji; each is drawn by both
CLIP = Path(__file__).parent.parent / "demo" / "weights" / "clip"
WIDTHS = (16, 32, 32)
EPOCHS, BATCH = 80, 32
LEARNING_RATE = 3e-3
CHECKPOINTS = (0.25, 0.5, 0.75)


def build(folder: Path) -> None:
    """Write both image folders; what is there already is left alone."""
    emoji = list(shared_emoji(subcategories=None))
    order = np.random.default_rng(0).permutation(len(emoji))[: TRAIN + VALIDATION]
    for part, chosen in (("train", order[:TRAIN]), ("validation", order[TRAIN:])):
        target = folder / part
        if (target / "metadata.jsonl").is_file():
            continue
        write(target, [emoji[i] for i in sorted(chosen)], SIZE)


def train(data: Path, out: Path, seed: int, *, half_precision: bool) -> None:
    """Write a diffusers directory with states of the training in it; the seed decides all else."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    pipeline = build_pipeline(CLIP, SIZE, WIDTHS)
    unet: Any = pipeline.unet
    folder = ImageSet(data)
    trainer = Trainer(pipeline, folder, EPOCHS * len(folder) // BATCH, seed)
    kept = {round(fraction * trainer.steps) for fraction in CHECKPOINTS}
    dtype = torch.float16 if half_precision else torch.float32
    while trainer.step < trainer.steps:
        trainer.train_step(BATCH, LEARNING_RATE)
        if trainer.step in kept:
            trainer.ema.store(unet.parameters())
            trainer.ema.copy_to(unet.parameters())
            unet.to(dtype).save_pretrained(out / f"checkpoint-{trainer.step}" / "unet")
            unet.float()
            trainer.ema.restore(unet.parameters())
    trainer.ema.copy_to(unet.parameters())
    pipeline.to(dtype=dtype).save_pretrained(out)


def prompts(data: Path) -> list[str]:
    """The captions that are drawn: 50 things in both styles."""
    return [sample.text or "" for sample in ImageSet(data).samples][:: TRAIN // 50]


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build").add_argument("folder", type=Path)
    training = commands.add_parser("train")
    training.add_argument("--data", type=Path, required=True)
    training.add_argument("--out", type=Path, required=True)
    training.add_argument("--seed", type=int, required=True)
    training.add_argument("--half-precision", action="store_true")
    drawing = commands.add_parser("draw")
    drawing.add_argument("model", type=Path)
    drawing.add_argument("folder", type=Path)
    asked = parser.parse_args()
    if asked.command == "build":
        build(asked.folder)
    elif asked.command == "draw":
        texts = prompts(asked.folder.parent / "train")
        draw_folder(
            Denoiser.load(asked.model), texts, range(len(texts)), Drawing(0, 50, 1.0), asked.folder
        )
    else:
        train(asked.data, asked.out, asked.seed, half_precision=asked.half_precision)


if __name__ == "__main__":
    main()
