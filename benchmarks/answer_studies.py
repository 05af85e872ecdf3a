"""What an answer says beside its order: parts of the picture, candidates, errors, creators.

All but the last need no retrained models; each is measured under the product's default.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import rankdata
from tables import PAPER

from attribution.embeddings import ClipEmbedder
from attribution.evaluation.ground_truth import GroundTruth
from attribution.evaluation.groups import agreement, group_shares, lost_without
from attribution.evaluation.measure import Case, scores_of
from attribution.evaluation.representations import Subject, extract, query_source, training_source
from attribution.evaluation.subsets import strata
from attribution.evaluation.sweep import FactorisedFeatures
from attribution.image_set import ImageSet

Array = NDArray[np.float64]

RESULTS = Path(__file__).parent / "results"
PAIRS = 60
PATCHES = ((0, 0), (0, 1), (1, 0), (1, 1))  # row and column of regions 0 to 3
LEFT, RIGHT = [0, 2], [1, 3]
SEEDS = 5
TOP = 50


@dataclass(frozen=True)
class Answer:
    """Figures, and the table that a reader sees: the first row is the head."""

    figures: dict[str, Any]
    rows: list[list[str]]


class AnswerStudy(Protocol):
    """One study of answers."""

    def __call__(self, subject: Subject) -> Answer:
        """Measure it."""
        ...


def spatial_map(subject: Subject) -> Answer:
    """Queries of two training images' halves: does each half name its own source?"""
    folder = ImageSet(subject.data)
    chosen = np.random.default_rng(0).permutation(len(folder))[: 2 * PAIRS].reshape(2, PAIRS)
    composites = subject.work.parent / "composites"
    _write_composites(folder, chosen, composites)
    subject = replace(subject, queries={"composites": composites})
    first, second = chosen
    at = np.arange(PAIRS)
    das, mean = Case.of("das"), Case.of("das-mean", **PAPER)
    by_region = parts_of(subject, das, "composites")
    patches = _pixel_patches(subject)
    maps: dict[str, NDArray[np.floating]] = {
        "das, 2 × 2 regions": by_region,
        "pixels of the patch": patches,
        "CLIP of the patch": _clip_patches(subject),
    }
    rows = [["score", "own half: median rank", "in the top 10", "other half: median rank"]]
    figures: dict[str, Any] = {"training_images": len(folder), "composites": PAIRS}
    for name, parts in maps.items():
        left, right = _ranks(parts[:, :, LEFT]), _ranks(parts[:, :, RIGHT])
        own = np.concatenate([left[at, first], right[at, second]])
        other = np.concatenate([right[at, first], left[at, second]])
        figures[name] = {
            "own_half_median_rank": float(np.median(own)),
            "own_half_in_top_10": float((own <= 10).mean()),
            "other_half_median_rank": float(np.median(other)),
        }
        found = (own <= 10).mean()
        rows.append([name, f"{np.median(own):g}", f"{found:.0%}", f"{np.median(other):g}"])
    whole = {
        "das, whole picture": by_region.sum(axis=2),
        "das-mean, whole picture": scores_of(subject, mean, "composites"),
    }
    for name, scores in whole.items():
        ranks = rankdata(-scores, axis=1)
        both = np.concatenate([ranks[at, half] for half in (first, second)])
        figures[name] = {
            "median_rank": float(np.median(both)),
            "in_top_10": float((both <= 10).mean()),
        }
        rows.append([name, f"{np.median(both):g}", f"{(both <= 10).mean():.0%}", "–"])
    return Answer(figures, rows)


def candidate_recall(subject: Subject) -> Answer:
    """Of the images that matter most, how many are among the most similar ones?"""
    das = Case.of("das")
    rows = [["queries", "candidates by", "how many", "of the top 10", "of the top 50"]]
    figures: dict[str, Any] = {}
    for query_set in subject.queries:
        scores = scores_of(subject, das, query_set)
        for likeness in ("clip-cosine", "raw-pixel-cosine"):
            alike = rankdata(-scores_of(subject, Case.of(likeness), query_set), axis=1)
            for part in (0.05, 0.1, 0.2, 0.5):
                count = round(part * scores.shape[1])
                found = [
                    float(np.take_along_axis(alike <= count, top, axis=1).mean())
                    for top in (np.argsort(-scores, axis=1)[:, :k] for k in (10, TOP))
                ]
                figures[f"{query_set}, {likeness}, {count}"] = found
                rows.append([query_set, likeness, str(count), *(f"{r:.0%}" for r in found)])
    return Answer(figures, rows)


def standard_errors(subject: Subject) -> Answer:
    """Does an effect ± its standard error cover what other noise and projections would say?

    The answer's standard error is over the m regions; the reference is the mean of the same effect
    under other seeds, which noise and projection are drawn from.
    """
    rows = [["queries", "images", "within 1 standard error", "within 2", "noise / standard error"]]
    figures: dict[str, Any] = {"seeds": SEEDS}
    for query_set in subject.queries:
        effects = np.stack(
            [
                parts_of(subject, Case.of("das-signed", seed=seed), query_set)
                for seed in range(SEEDS)
            ]
        )  # (S, Q, n, m)
        sums = effects.sum(axis=3, dtype=np.float64)
        errors = np.sqrt(effects.shape[3]) * effects.std(axis=3, ddof=1, dtype=np.float64)
        # Kernels of other projections differ by a scale; what is compared is in units of each.
        unit = np.sqrt((sums**2).mean(axis=(1, 2), keepdims=True))
        sums, errors = sums / unit, errors / unit
        others = (sums.sum(axis=0) - sums) / (SEEDS - 1)
        distance = np.abs(sums - others) / errors
        order = np.argsort(-np.abs(sums), axis=2)[:, :, :TOP]
        spread = sums.std(axis=0, ddof=1)
        everything = np.broadcast_to(np.arange(sums.shape[2]), sums.shape)
        for name, picked in (("all", everything), (f"top {TOP}", order)):
            d, noise, error = (
                np.take_along_axis(np.broadcast_to(a, sums.shape), picked, axis=2)
                for a in (distance, spread, errors)
            )
            covered = [float((d <= width).mean()) for width in (1, 2)]
            ratio = float(np.median(noise / error))
            figures[f"{query_set}, {name}"] = {
                "within_1": covered[0],
                "within_2": covered[1],
                "noise_over_std_error": ratio,
            }
            rows.append([query_set, name, *(f"{c:.0%}" for c in covered), f"{ratio:.2f}"])
    return Answer(figures, rows)


def creators(subject: Subject) -> Answer:
    """Leave each creator out and train again: is the one missed most who had the largest share?

    With several training seeds the last row is the yardstick: one half of them against the other.
    """
    truth = GroundTruth.read(RESULTS / "emoji" / "creators.npz")
    samples = ImageSet(subject.data).samples
    labels, groups = strata(samples, "creator"), truth.protocol["design"]["groups"]
    rows = [["queries", "score", "largest share = missed most", "Spearman over queries"]]
    seeds = int(truth.measured.all(axis=0).sum())
    figures: dict[str, Any] = {"training_seeds": seeds, "groups": groups}
    for query_set in subject.queries:
        lost = lost_without(truth, query_set)
        found = {
            case.label: agreement(
                group_shares(scores_of(subject, case, query_set), labels, groups), lost.mean(axis=0)
            )
            for case in (
                Case.of("das"),
                Case.of("das-mean", **PAPER),
                Case.of("dtrak", **PAPER),
                Case.of("clip-cosine"),
                Case.of("raw-pixel-cosine"),
            )
        }
        if seeds > 1:
            halves = lost[::2].mean(axis=0), lost[1::2].mean(axis=0)
            found["retraining: half of the seeds against the other"] = agreement(*halves)
        for label, agreed in found.items():
            figures[f"{query_set}, {label}"] = asdict(agreed)
            told = [f"{agreed.same_first:.0%}", f"{agreed.over_queries:.2f}"]
            rows.append([query_set, label, *told])
    return Answer(figures, rows)


ANSWER_STUDIES: dict[str, dict[str, tuple[str, AnswerStudy]]] = {
    "fashion-2": {
        "map": ("Which part of the picture: composites of two training images", spatial_map),
        "candidates": ("Recall of candidates", candidate_recall),
        "standard-errors": ("Standard errors", standard_errors),
    },
    "fashion-10": {},
    "latent": {},
    "emoji": {"creators": ("Whose drawings are missed: leaving each creator out", creators)},
}


def parts_of(subject: Subject, case: Case, query_set: str) -> NDArray[np.float32]:
    """What each region adds to the scores of one set: ``(Q, n, m)``."""
    sources = (
        training_source(subject, case.config),
        query_source(subject, case.config, case.method, query_set),
    )
    extract(subject, sources)
    training, queries = (source.read(subject.work) for source in sources)
    features = FactorisedFeatures(training)
    asked = features.coordinates(queries)
    return features.parts(case.method, asked, features.configured_dampings(case.config))


def _write_composites(folder: ImageSet, chosen: NDArray[np.int64], target: Path) -> None:
    target.mkdir(exist_ok=True)
    for number, (a, b) in enumerate(chosen.T):
        joined = folder.image(int(a)).copy()
        half = joined.width // 2
        right = (half, 0, joined.width, joined.height)
        joined.paste(folder.image(int(b)).crop(right), (half, 0))
        joined.save(target / f"{number:03d}.png")
    lines = [json.dumps({"file_name": f"{number:03d}.png"}) for number in range(chosen.shape[1])]
    (target / "metadata.jsonl").write_text("\n".join(lines) + "\n")


def _patches(folder: ImageSet) -> list[list[Image.Image]]:
    """Of each image its four quarters, as the regions are numbered."""
    images = [folder.image(i) for i in range(len(folder))]
    half = images[0].width // 2
    return [
        [
            image.crop((column * half, row * half, (column + 1) * half, (row + 1) * half))
            for row, column in PATCHES
        ]
        for image in images
    ]


def _pixel_patches(subject: Subject) -> Array:
    """Cosines of quarters in pixels from -1 to 1: ``(Q, n, 4)``."""
    return _patch_cosines(subject, _pixel_vectors)


def _clip_patches(subject: Subject) -> Array:
    """Cosines of quarters in CLIP's embeddings: ``(Q, n, 4)``."""
    assert subject.clip is not None, "the studies name a CLIP"
    clip = ClipEmbedder(subject.clip)
    return _patch_cosines(
        subject, lambda patches: clip.embed_images([patch.convert("RGB") for patch in patches])
    )


def _pixel_vectors(patches: list[Image.Image]) -> Array:
    return np.stack([np.asarray(patch, np.float64).ravel() / 127.5 - 1 for patch in patches])


def _patch_cosines(
    subject: Subject, embed: Callable[[list[Image.Image]], NDArray[np.floating]]
) -> Array:
    def embedded(root: Path) -> Array:
        patches = _patches(ImageSet(root))
        flat = embed([patch for image in patches for patch in image])
        lengths = np.linalg.norm(flat, axis=1, keepdims=True)
        return np.asarray((flat / lengths.clip(1e-12)).reshape(len(patches), len(PATCHES), -1))

    queries, training = embedded(subject.queries["composites"]), embedded(subject.data)
    return np.asarray(np.einsum("qrk,irk->qir", queries, training))


def _ranks(parts: NDArray[np.floating]) -> Array:
    return np.asarray(rankdata(-parts.sum(axis=2), axis=1))
