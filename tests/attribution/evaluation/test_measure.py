"""A bench measures what its ground truth speaks of, and counts whole subsets only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attribution.errors import InputError
from attribution.evaluation.ground_truth import GroundTruth, GroundTruthError
from attribution.evaluation.lds import lds
from attribution.evaluation.measure import Bench, Case, scores_of
from attribution.evaluation.report import LdsReport, markdown, plot_dampings, rows_of
from attribution.evaluation.representations import Subject
from attribution.evaluation.subsets import draw_subsets
from attribution.image_set import ImageSet

SMALL = {"timesteps": 2, "projection_dim": 100}


@pytest.fixture
def subject(trained_ddpm: Path, tiny_folder: Path, tmp_path: Path) -> Subject:
    return Subject(trained_ddpm, tiny_folder, {"ada": tiny_folder / "ada"}, tmp_path / "work")


@pytest.fixture
def truth(tiny_folder: Path, rng: np.random.Generator) -> GroundTruth:
    keys = [sample.key for sample in ImageSet(tiny_folder).samples]
    asked = [f"ada/{sample.key}" for sample in ImageSet(tiny_folder / "ada").samples]
    members = draw_subsets(["x"] * 12, 8, 0.5, 0)
    planned = GroundTruth.planned(keys, asked, members, [0, 1], {"training": {"trainer": "none"}})
    of_subset = rng.random((8, 1, 6))  # what both seeds agree on
    planned.losses[:] = of_subset + 0.1 * rng.random(planned.losses.shape)
    return planned


def test_results_are_the_lds_of_the_scores(subject: Subject, truth: GroundTruth) -> None:
    bench = Bench(subject, truth)
    cases = [Case.of("das", **SMALL), Case.of("gradient", **SMALL), Case.of("das-signed", **SMALL)]
    results = list(bench.measure(cases))
    found = {(result.case.label, result.choice): result for result in results}
    assert set(found) == {
        ("das", "label-free"),
        ("das", "oracle"),
        ("das-signed", "label-free"),
        ("das-signed", "oracle"),
        ("gradient", None),
    }
    for case in cases:
        expected = lds(scores_of(subject, case, "ada"), truth.members, truth.losses)
        result = found.get((case.label, "label-free")) or found[case.label, None]
        assert result.estimate.value == pytest.approx(expected.value)
        assert result.estimate.error == pytest.approx(expected.error)
    best = found["das", "oracle"]
    assert best.estimate.value == pytest.approx(max(value for _, value in best.curve))
    known = bench.yardsticks["ada"]
    assert known is not None
    assert best.of_limit == pytest.approx(best.estimate.value / known.limit)


def test_subsets_that_lack_a_seed_do_not_count(subject: Subject, truth: GroundTruth) -> None:
    truth.losses[[1, 5], 1] = np.nan
    assert Bench(subject, truth).losses("ada").shape == (6, 2, 6)
    assert Bench(subject, truth, seeds=[0]).losses("ada").shape == (8, 1, 6)


def test_another_ground_truth_is_refused(
    subject: Subject, truth: GroundTruth, tiny_folder: Path
) -> None:
    other = Subject(subject.model, tiny_folder / "bob", subject.queries, subject.work)
    with pytest.raises(InputError, match="other images"):
        Bench(other, truth)
    renamed = Subject(subject.model, subject.data, {"bob": tiny_folder / "ada"}, subject.work)
    with pytest.raises(GroundTruthError, match="no queries 'bob'"):
        Bench(renamed, truth)
    moved = Subject(subject.model, subject.data, {"ada": tiny_folder / "bob"}, subject.work)
    truth.query_keys[0] = "ada/other.png"
    with pytest.raises(InputError, match="other queries"):
        Bench(moved, truth)


def test_the_page_shows_the_papers_figures_beside(subject: Subject, truth: GroundTruth) -> None:
    bench = Bench(subject, truth)
    results = list(bench.measure([Case.of("das-mean", **SMALL)], sweep=False))
    report = LdsReport("2026-11-24", "0" * 64, truth, results).to_dict()
    head, row = rows_of(report | {"paper": {"das-mean": {"ada": 33.9}}}, "ada")
    assert head[-1] == "paper, other data"
    assert (row[0], row[2], row[-1]) == ("das-mean", "–", "33.9")
    page = markdown(report)
    assert "one retraining foretells another with ρ" in page
    assert "33.9" not in page


def test_curves_over_damping_are_drawn(
    subject: Subject, truth: GroundTruth, tmp_path: Path
) -> None:
    """A line for every score that was swept; one without λ has none, and is left out."""
    cases = [Case.of("das", **SMALL), Case.of("gradient", **SMALL)]
    results = list(Bench(subject, truth).measure(cases))
    report = LdsReport("2026-11-24", "0" * 64, truth, results).to_dict()
    plot_dampings(report, tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    coloured = pixels[pixels.max(axis=1) - pixels.min(axis=1) > 40]
    assert len(coloured) > 100
    mean = coloured.mean(axis=0)
    assert mean[2] > mean[0], "the first colour of the cycle alone: one line"


def test_scores_made_elsewhere_are_results_too(subject: Subject, truth: GroundTruth) -> None:
    bench, case = Bench(subject, truth), Case.of("das", **SMALL)
    scores = scores_of(subject, case, "ada")
    some = np.where(scores >= np.median(scores, axis=1, keepdims=True), scores, 0)
    result = bench.result(case, "ada", some)
    assert result.estimate.value == lds(some, truth.members, truth.losses).value
    assert (result.choice, result.curve) == (None, [])
