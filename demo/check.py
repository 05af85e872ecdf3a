"""Are the answers right?  Pictures with known prompts, drawn and attributed, counted.

``headwater demo --check`` draws pictures of which it knows what was asked for, in which style,
and asks three scores for the ten and fifty most influential training images: DAS, D-TRAK and CLIP
similarity.  Two figures each: the asked style's part of the top 50, and how often a drawing of the
same emoji is among the top 10.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.table import Table

from attribution.attributor import Attributor
from attribution.denoisers import Denoiser, Drawing
from attribution.embeddings import ClipEmbedder
from attribution.features import GradientFeatures
from attribution.image_data.folder import METADATA
from attribution.image_data.sample import Sample
from attribution.image_set import ImageSet
from attribution.index.build import IndexBuilder
from attribution.index.config import IndexConfig
from attribution.index.search import Index
from attribution.methods import config_for
from cli.progress import console, progress_bar
from demo.dataset import build as build_dataset
from demo.paths import CLIP, DATA, HOME, MODEL, OUT

DRAWN_AT_ONCE = 20


@dataclass(frozen=True)
class Question:
    """A generated picture and the training image whose caption was its prompt."""

    sample: Sample
    seed: int
    image: Image.Image


@dataclass
class Tally:
    """Right answers of one score."""

    style_share: list[float]
    style_count: list[float]
    same_drawing: list[bool]
    same_emoji: list[bool]

    def add(self, asked: Sample, keys: list[str], scores: NDArray[np.float64]) -> None:
        """Count one answer, given all training keys and their scores."""
        style, emoji = asked.key.split("/")
        order = np.argsort(-scores, kind="stable")
        top = [keys[i] for i in order[:50]]
        weight = np.maximum(scores[order[:50]], 0)
        in_style = np.array([key.startswith(f"{style}/") for key in top])
        self.style_share.append(float(weight[in_style].sum() / weight.sum()))
        self.style_count.append(float(in_style.mean()))
        self.same_drawing.append(asked.key in top[:10])
        self.same_emoji.append(any(key.endswith(f"/{emoji}") for key in top[:10]))

    def figures(self) -> dict[str, float]:
        """Means over the questions."""
        return {
            "style_share_of_top_50_influence": float(np.mean(self.style_share)),
            "style_part_of_top_50_images": float(np.mean(self.style_count)),
            "majority_in_style": float(np.mean(np.array(self.style_share) > 0.5)),
            "same_drawing_in_top_10": float(np.mean(self.same_drawing)),
            "same_emoji_in_top_10": float(np.mean(self.same_emoji)),
        }


def questions(
    denoiser: Denoiser, folder: ImageSet, count: int, on_progress: Any
) -> Iterator[Question]:
    """Draw ``count`` pictures of captions chosen by a fixed seed, half of them in each style."""
    picker = random.Random(0)
    by_style: dict[str, list[Sample]] = {}
    for sample in folder.samples:
        by_style.setdefault(sample.key.split("/")[0], []).append(sample)
    each = -(-count // len(by_style))
    chosen = [s for samples in by_style.values() for s in picker.sample(samples, each)][:count]
    for start in range(0, len(chosen), DRAWN_AT_ONCE):
        batch = chosen[start : start + DRAWN_AT_ONCE]
        seeds = [1000 + start + i for i in range(len(batch))]
        texts = [sample.text or "" for sample in batch]
        *_, last = denoiser.drawn_together(texts, seeds, Drawing(seed=0))
        drawn = denoiser.decode(last.sample)
        for sample, seed, picture in zip(batch, seeds, drawn, strict=True):
            yield Question(sample, seed, picture)
        on_progress(start + len(batch))


def attributor_for(
    config: IndexConfig, denoiser: Denoiser, clip: ClipEmbedder, folder: ImageSet
) -> Attributor:
    """The index of ``config`` over the demo's images, built unless it is there."""
    directory = HOME / "check" / f"{config.digest()[:12]}-{denoiser.digest[:12]}"
    builder = IndexBuilder(directory, GradientFeatures(denoiser, config), folder)
    with progress_bar(f"index ({config.output})", len(builder.shards)) as advance:
        for shard in builder.shards:
            builder.extract(shard.number)
            advance(shard.number + 1)
    builder.finalise(clip)
    return Attributor(Index(directory), denoiser, clip)


def run(pictures: int = 100) -> dict[str, Any]:
    """Ask, count, print a table and write ``demo/out/check.json``."""
    torch.set_num_threads(2)
    started = time.monotonic()
    if not (DATA / METADATA).is_file():
        build_dataset(DATA)
    folder = ImageSet(DATA)
    denoiser, clip = Denoiser.load(MODEL), ClipEmbedder(str(CLIP))
    asked: list[Question] = []
    with progress_bar("drawing", pictures) as advance:
        asked.extend(questions(denoiser, folder, pictures, advance))
    das = attributor_for(config_for("das"), denoiser, clip, folder)
    dtrak = attributor_for(config_for("dtrak"), denoiser, clip, folder)
    tallies = {
        name: Tally([], [], [], [])
        for name in ("das", "das, prompt unknown", "das-signed", "dtrak", "clip")
    }
    with progress_bar("attributing", pictures) as advance:
        for done, question in enumerate(asked, start=1):
            sample, image = question.sample, question.image
            answer = das.attribute(image, caption=sample.text)
            tallies["das"].add(sample, answer.keys, answer.scores)
            tallies["das-signed"].add(sample, answer.keys, answer.effects.sum(axis=1))
            tallies["clip"].add(sample, answer.keys, answer.clip_similarities)
            blind = das.attribute(image)
            tallies["das, prompt unknown"].add(sample, blind.keys, blind.scores)
            other = dtrak.attribute(image, caption=sample.text, method="dtrak")
            tallies["dtrak"].add(sample, other.keys, other.scores)
            advance(done)
    result: dict[str, Any] = {
        "command": f"headwater demo --check --pictures {pictures}",
        "pictures": pictures,
        "training_images": len(folder),
        "model_digest": denoiser.digest,
        "minutes": round((time.monotonic() - started) / 60, 1),
        "scores": {name: tally.figures() for name, tally in tallies.items()},
        "chance": {
            "style_part_of_top_50_images": 0.5,
            "same_drawing_in_top_10": 10 / len(folder),
            "same_emoji_in_top_10": 1 - (1 - 2 / len(folder)) ** 10,
        },
    }
    show(result)
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "check.json").write_text(json.dumps(result, indent=2) + "\n")
    return result


def show(result: dict[str, Any]) -> None:
    """Print the figures as a table."""
    table = Table(title=f"{result['pictures']} pictures with known prompts")
    table.add_column("score")
    columns = list(next(iter(result["scores"].values())))
    for column in columns:
        table.add_column(column.replace("_", " "), justify="right")
    for name, figures in [*result["scores"].items(), ("chance", result["chance"])]:
        cells = [f"{figures[column]:.1%}" if column in figures else "" for column in columns]
        table.add_row(name, *cells)
    console.print(table)
