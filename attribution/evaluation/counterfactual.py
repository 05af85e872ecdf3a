"""Delete the images a score points at, train again, draw again: what becomes of the picture?

The paper's Figure 1.  The model is trained again from the seed that made it, and draws from the
seeds of the queries, so that all that differs is the deleted images.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from attribution.denoisers import Drawing
from attribution.embeddings import ClipEmbedder
from attribution.errors import InputError
from attribution.evaluation.processes import in_processes
from attribution.evaluation.retraining import Trainer
from attribution.image_set import ImageSet
from attribution.index.manifest import atomic_file

RANDOM = "random"
RESAMPLES = 2000

Pictures = NDArray[np.uint8]
Array = NDArray[np.float64]


class CounterfactualError(InputError):
    """The experiment cannot be made; the message says why."""


@dataclass(frozen=True)
class Experiment:
    """Which images go, and what is drawn afterwards.

    ``deletions`` gives for every method, by its name, the rows ``(Q, removed)`` to delete for each
    query, and under ``random`` rows ``(repeats, removed)`` that are the same for all queries.
    """

    trainer: Trainer
    data: Path
    training_seed: int
    prompts: list[str]
    drawing_seeds: list[int]
    drawing: Drawing
    deletions: dict[str, NDArray[np.int64]]

    def draw_without(self, rows: Sequence[int], queries: Sequence[int]) -> Pictures:
        """Pictures ``(len(queries), H, W, 3)`` of the model trained without ``rows``."""
        folder = ImageSet(self.data)
        kept = np.setdiff1d(np.arange(len(folder)), rows)
        denoiser = self.trainer.train(folder, kept.tolist(), self.training_seed)
        *_, last = denoiser.drawn_together(
            [self.prompts[q] for q in queries],
            [self.drawing_seeds[q] for q in queries],
            self.drawing,
        )
        return as_array(denoiser.decode(last.sample))


def random_deletions(images: int, removed: int, repeats: int, seed: int = 0) -> NDArray[np.int64]:
    """Rows ``(repeats, removed)`` drawn at random."""
    draws = [np.random.default_rng([seed, r]).permutation(images)[:removed] for r in range(repeats)]
    return np.stack(draws).astype(np.int64)


def largest(scores: NDArray[np.floating], removed: int) -> NDArray[np.int64]:
    """The rows of each query's highest scores ``(Q, removed)``."""
    if not 0 < removed < scores.shape[1]:
        raise CounterfactualError(
            f"{removed} of {scores.shape[1]} images cannot be deleted and something kept"
        )
    return np.argsort(-scores, axis=1, kind="stable")[:, :removed].astype(np.int64)


def as_array(images: Sequence[Image.Image]) -> Pictures:
    """RGB pixels ``(n, H, W, 3)``."""
    return np.stack([np.asarray(image.convert("RGB")) for image in images])


def run(
    experiment: Experiment,
    path: Path,
    *,
    processes: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Pictures]:
    """Pictures ``(Q, H, W, 3)`` after each method's deletion, ``(repeats, Q, H, W, 3)`` at random.

    ``path`` keeps every picture as it comes; what an earlier run of the same experiment has drawn
    is not drawn again.
    """
    queries = range(len(experiment.drawing_seeds))
    done = _read(path, experiment)
    jobs = {}
    for name, deletions in experiment.deletions.items():
        for number, rows in enumerate(deletions):
            asked = list(queries) if name == RANDOM else [number]
            if (name, number) not in done:
                jobs[name, number] = partial(experiment.draw_without, rows.tolist(), asked)
    total = len(done) + len(jobs)
    report = on_progress or (lambda now, of: None)
    report(len(done), total)
    for key, pictures in in_processes(jobs, processes):
        done[key] = pictures
        _write(path, experiment, done)
        report(len(done), total)
    found = {}
    for name, deletions in experiment.deletions.items():
        parts = [done[name, number] for number in range(len(deletions))]
        found[name] = np.stack(parts) if name == RANDOM else np.concatenate(parts)
    return found


def pixel_distances(originals: Pictures, changed: Pictures) -> Array:
    """Root mean square difference of pixels in [0, 1], over the last three axes."""
    difference = (changed.astype(np.float64) - originals.astype(np.float64)) / 255
    return np.asarray(np.sqrt((difference**2).mean(axis=(-3, -2, -1))))


def clip_distances(clip: ClipEmbedder, originals: Pictures, changed: Pictures) -> Array:
    """One minus the cosine of CLIP embeddings."""
    flat = changed.reshape(-1, *changed.shape[-3:])
    before = clip.embed_images([Image.fromarray(picture) for picture in originals])
    after = clip.embed_images([Image.fromarray(picture) for picture in flat])
    cosines = after.reshape(*changed.shape[:-3], -1) * before
    return np.asarray(1 - cosines.sum(axis=-1), dtype=np.float64)


@dataclass(frozen=True)
class Comparison:
    """How much further one deletion moved the pictures than another: the mean over queries."""

    name: str
    other: str
    difference: float
    interval: tuple[float, float]
    further: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "name": self.name,
            "other": self.other,
            "mean_difference": round(self.difference, 5),
            "interval_95": [round(bound, 5) for bound in self.interval],
            "part_of_queries_moved_further": round(self.further, 3),
        }


def compare(name: str, distances: Array, other: str, others: Array) -> Comparison:
    """The paired difference of distances ``(Q,)``, with a bootstrap over queries."""
    rng = np.random.default_rng(0)
    difference = distances - others
    drawn = rng.integers(0, len(difference), (RESAMPLES, len(difference)))
    low, high = np.quantile(difference[drawn].mean(axis=1), [0.025, 0.975])
    return Comparison(
        name,
        other,
        float(difference.mean()),
        (float(low), float(high)),
        float((difference > 0).mean()),
    )


def counterfactual_report(
    originals: Pictures, changed: dict[str, Pictures], clip: ClipEmbedder | None
) -> dict[str, Any]:
    """How far each deletion moved the pictures, and each method further than all others."""
    measures = {"pixels": partial(pixel_distances, originals)}
    if clip is not None:
        measures["clip"] = partial(clip_distances, clip, originals)
    content: dict[str, Any] = {"queries": len(originals), "distances": {}, "comparisons": {}}
    for measure, distance in measures.items():
        by_name = {
            # Random deletions are repeated: each query's mean over them.
            name: distance(pictures).mean(axis=0) if name == RANDOM else distance(pictures)
            for name, pictures in changed.items()
        }
        content["distances"][measure] = {
            name: [round(float(d), 5) for d in found] for name, found in by_name.items()
        }
        names = list(by_name)
        content["comparisons"][measure] = [
            compare(name, by_name[name], other, by_name[other]).to_dict()
            for place, name in enumerate(names)
            for other in names[place + 1 :]
        ]
    return content


def counterfactual_rows(report: dict[str, Any]) -> list[list[str]]:
    """A table: mean distances, and what of each comparison; the first row is the head."""
    rows = [["distance", "deleted", "mean", "further than", "by (95 %)", "of the pictures"]]
    for measure, by_name in report["distances"].items():
        for name, distances in by_name.items():
            mean = f"{np.mean(distances):.4f}"
            pairs = [c for c in report["comparisons"][measure] if c["name"] == name]
            rows += [[measure, name, mean, "–", "–", "–"]] if not pairs else []
            for pair in pairs:
                low, high = pair["interval_95"]
                by = f"{pair['mean_difference']:+.4f} ({low:+.4f} … {high:+.4f})"
                part = f"{pair['part_of_queries_moved_further']:.0%}"
                rows.append([measure, name, mean, pair["other"], by, part])
    return rows


def picture(originals: Pictures, changed: dict[str, Pictures], path: Path, shown: int = 10) -> None:
    """A column for each query: as it was drawn, and after each deletion."""
    rows = {"drawn": originals} | {
        f"without {name}" if name == RANDOM else f"without {name}'s": part[0]
        if name == RANDOM
        else part
        for name, part in changed.items()
    }
    shown = min(shown, len(originals))
    figure = Figure(figsize=(1.05 * shown + 1.7, 1.1 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), shown, squeeze=False)
    for line, (label, pictures) in zip(axes, rows.items(), strict=True):
        for panel, pixels in zip(line, pictures[:shown], strict=True):
            panel.imshow(pixels, interpolation="nearest")
            panel.set(xticks=[], yticks=[])
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
    figure.savefig(path, dpi=110)


def _identity(experiment: Experiment) -> str:
    facts = {
        "trainer": experiment.trainer.describe(),
        "training_seed": experiment.training_seed,
        "prompts": experiment.prompts,
        "seeds": experiment.drawing_seeds,
        "drawing": vars(experiment.drawing),
    }
    return json.dumps(facts, sort_keys=True)


def _write(path: Path, experiment: Experiment, done: dict[tuple[str, int], Pictures]) -> None:
    tables: dict[str, Any] = {}
    for (name, number), pictures in done.items():
        tables[f"pictures/{name}/{number}"] = pictures
        tables[f"rows/{name}/{number}"] = np.sort(experiment.deletions[name][number])
    with atomic_file(path) as file:
        np.savez_compressed(
            file, allow_pickle=False, identity=np.array(_identity(experiment)), **tables
        )


def _read(path: Path, experiment: Experiment) -> dict[tuple[str, int], Pictures]:
    """What has been drawn for the very same deletions."""
    if not path.is_file():
        return {}
    done = {}
    try:
        with np.load(path, allow_pickle=False) as content:
            if str(content["identity"]) != _identity(experiment):
                raise CounterfactualError(f"{path} is of another experiment; name another file")
            for name, deletions in experiment.deletions.items():
                for number, rows in enumerate(deletions):
                    known = f"rows/{name}/{number}"
                    if known in content and np.array_equal(content[known], np.sort(rows)):
                        done[name, number] = content[f"pictures/{name}/{number}"]
    except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
        if isinstance(error, CounterfactualError):
            raise
        raise CounterfactualError(f"{path} holds no pictures: {error}") from None
    return done
