"""Deleting images: the right ones go, nothing else changes, and distances are compared in pairs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attribution.denoisers import Drawing
from attribution.embeddings import ClipEmbedder
from attribution.evaluation import counterfactual
from attribution.evaluation.counterfactual import (
    CounterfactualError,
    Experiment,
    clip_distances,
    compare,
    counterfactual_report,
    counterfactual_rows,
    largest,
    pixel_distances,
    random_deletions,
)
from attribution.evaluation.retraining import DdpmTrainer
from attribution.training import DdpmTraining

SMALL = DdpmTraining(image_size=8, widths=(8, 8), epochs=2, batch_size=4)


@pytest.fixture
def experiment(tiny_folder: Path) -> Experiment:
    return Experiment(
        trainer=DdpmTrainer(SMALL),
        data=tiny_folder,
        training_seed=3,
        prompts=["", "", ""],
        drawing_seeds=[7, 8, 9],
        drawing=Drawing(0, steps=3),
        deletions={
            "das": np.array([[0, 1], [2, 3], [4, 5]]),
            "random": random_deletions(12, 2, repeats=2),
        },
    )


def test_the_highest_scores_go() -> None:
    scores = np.array([[0.1, 3.0, -5.0, 2.0], [1.0, 0.0, 0.0, 0.0]])
    assert largest(scores, 2).tolist() == [[1, 3], [0, 1]]
    for impossible in (0, 4, 5):
        with pytest.raises(CounterfactualError):
            largest(scores, impossible)


def test_random_deletions_are_repeatable_and_differ() -> None:
    rows = random_deletions(30, 5, 3)
    assert np.array_equal(rows, random_deletions(30, 5, 3))
    assert all(len(set(row.tolist())) == 5 for row in rows)
    assert len({tuple(sorted(row.tolist())) for row in rows}) == 3


def test_only_the_deleted_images_matter(experiment: Experiment) -> None:
    first = experiment.draw_without([1, 2], [0, 1])
    assert first.shape == (2, 8, 8, 3)
    assert np.array_equal(first, experiment.draw_without([2, 1], [0, 1]))
    assert np.array_equal(first[1:], experiment.draw_without([1, 2], [1]))
    assert not np.array_equal(first, experiment.draw_without([1, 3], [0, 1]))


def test_pictures_are_kept_and_only_new_deletions_are_tried(
    experiment: Experiment, tmp_path: Path
) -> None:
    path, told = tmp_path / "pictures.npz", []
    found = counterfactual.run(
        experiment, path, processes=2, on_progress=lambda *now: told.append(now)
    )
    assert told[0] == (0, 5)
    assert told[-1] == (5, 5)
    assert found["das"].shape == (3, 8, 8, 3)
    assert found["random"].shape == (2, 3, 8, 8, 3)
    assert np.array_equal(found["das"][1:2], experiment.draw_without([2, 3], [1]))

    other = replace(
        experiment, deletions=experiment.deletions | {"das": np.array([[1, 0], [2, 3], [6, 7]])}
    )
    told.clear()
    again = counterfactual.run(other, path, processes=1, on_progress=lambda *now: told.append(now))
    assert told == [(4, 5), (5, 5)]  # the third picture's images are others, the first's are not
    assert np.array_equal(again["das"][:2], found["das"][:2])

    with pytest.raises(CounterfactualError, match="another experiment"):
        counterfactual.run(replace(experiment, training_seed=4), path, processes=1)
    path.write_bytes(b"rubbish")
    with pytest.raises(CounterfactualError, match="holds no pictures"):
        counterfactual.run(experiment, path, processes=1)


def test_distances_are_those_of_pixels_and_of_embeddings(
    rng: np.random.Generator, tiny_clip: Path
) -> None:
    originals = rng.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    assert pixel_distances(originals, originals).tolist() == [0, 0, 0]
    inverted = np.stack([255 - originals, originals])
    distances = pixel_distances(originals, inverted)
    assert distances.shape == (2, 3)
    exact = np.sqrt(((2 * (originals / 255) - 1) ** 2).mean(axis=(1, 2, 3)))
    np.testing.assert_allclose(distances[0], exact)

    clip = ClipEmbedder(str(tiny_clip))
    before = clip.embed_images([Image.fromarray(picture) for picture in originals])
    after = clip.embed_images([Image.fromarray(255 - picture) for picture in originals])
    found = clip_distances(clip, originals, inverted)
    np.testing.assert_allclose(found[0], 1 - (before * after).sum(axis=1), atol=1e-5)
    np.testing.assert_allclose(found[1], 0, atol=1e-5)


def test_pairs_are_told_from_chance(rng: np.random.Generator) -> None:
    base = rng.random(40)
    further = compare("a", base + 0.1 + 0.02 * rng.standard_normal(40), "b", base)
    assert further.interval[0] > 0
    assert further.difference == pytest.approx(0.1, abs=0.02)
    assert further.further > 0.9
    alike = compare("a", base + 0.1 * rng.standard_normal(40), "b", base)
    assert alike.interval[0] < 0 < alike.interval[1]


def test_the_table_compares_each_with_all_that_follow(
    experiment: Experiment, rng: np.random.Generator, tmp_path: Path
) -> None:
    originals = rng.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    changed = {"das": 255 - originals, "random": np.stack([originals, originals])}
    report = counterfactual_report(originals, changed, None)
    assert report["distances"]["pixels"]["random"] == [0, 0, 0]
    (pair,) = report["comparisons"]["pixels"]
    assert (pair["name"], pair["other"], pair["part_of_queries_moved_further"]) == (
        "das",
        "random",
        1.0,
    )
    rows = counterfactual_rows(report)
    assert [row[1] for row in rows[1:]] == ["das", "random"]
    counterfactual.picture(originals, changed, tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as drawn:
        assert np.asarray(drawn.convert("L")).std() > 5
