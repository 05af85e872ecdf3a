"""``headwater train``, ``draw`` and ``evaluate``: from pictures to a table of LDS, and refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SMALL = ("--image-size", "8", "--channels", "1", "--widths", "8,8", "--batch-size", "4")
KNOBS = ("--timesteps", "2", "--projection-dim", "200", "--processes", "2")


def headwater(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli.main", *map(str, arguments)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == code, finished.stderr
    assert "Traceback" not in finished.stderr
    return finished


@pytest.fixture(scope="module")
def place(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained model with its pictures, and a ground truth of six subsets."""
    root = tmp_path_factory.mktemp("evaluate")
    headwater("train", "--data", tiny_folder, "--out", root / "model", *SMALL, "--epochs", 4)
    headwater("draw", "--model", root / "model", "--out", root / "drawn", "--count", 3, "--seed", 5)
    headwater(
        *("evaluate", "retrain", "--data", tiny_folder, "--model", root / "model"),
        *("--queries", f"held={tiny_folder / 'ada'}", "--queries", f"drawn={root / 'drawn'}"),
        *("--truth", root / "truth.npz", "--subsets", 6, "--stratify", "creator"),
        *("--loss-timesteps", 2, "--processes", 2),
    )
    return root


def asked(place: Path, tiny_folder: Path, *more: object) -> list[object]:
    return [
        *("evaluate", "lds", "--model", place / "model", "--data", tiny_folder),
        *("--queries", f"held={tiny_folder / 'ada'}", "--queries", f"drawn={place / 'drawn'}"),
        *("--truth", place / "truth.npz", "--subsets", 6, "--stratify", "creator"),
        *("--loss-timesteps", 2, *KNOBS, *more),
    ]


def test_every_method_gets_a_row_and_is_said_to_be_a_fraction_of_the_limit(
    place: Path, tiny_folder: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    out = tmp_path / "lds.json"
    before = (place / "truth.npz").read_bytes()
    headwater(*asked(place, tiny_folder, "--clip", tiny_clip, "--out", out))
    assert (place / "truth.npz").read_bytes() == before  # nothing was trained again
    report = json.loads(out.read_text())
    found = {(row["method"], row["query_set"], row["damping"]) for row in report["results"]}
    assert ("das", "held", "label-free") in found
    assert ("das", "drawn", "oracle") in found
    assert ("journey-trak", "drawn", "label-free") in found
    assert ("journey-trak", "held", "label-free") not in found  # those were not drawn
    assert ("clip-cosine", "held", None) in found
    assert ("tracin", "drawn", None) in found
    for row in report["results"]:
        assert -1 <= row["lds"] <= 1
        assert row["interval_95"][0] <= row["lds"] + row["std_error"] * 3
    oracle = {
        (row["method"], row["query_set"]): row
        for row in report["results"]
        if row["damping"] == "oracle"
    }
    best = oracle["das", "held"]
    assert best["lds"] == max(value for _, value in best["curve"])
    page = out.with_suffix(".md").read_text()
    assert "## drawn" in page
    assert "| das |" in page
    with Image.open(out.with_suffix(".png")) as picture:
        assert np.asarray(picture.convert("L")).std() > 5


def test_features_are_kept_for_the_next_evaluation(
    place: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    first = asked(place, tiny_folder, "--method", "das", "--work", work, "--out")
    headwater(*first, tmp_path / "a.json")
    files = sorted(work.rglob("*.safetensors"))
    again = asked(
        place, tiny_folder, "--method", "das-signed", "--damping", "directions:10", "--work", work
    )
    headwater(*again, "--out", tmp_path / "b.json")
    assert sorted(work.rglob("*.safetensors")) == files  # other method, other λ, same features


def test_pictures_that_are_drawn_say_from_which_seed(place: Path) -> None:
    rows = [json.loads(line) for line in (place / "drawn" / "metadata.jsonl").open()]
    assert [row["seed"] for row in rows] == [5, 6, 7]
    assert len({(place / "drawn" / row["file_name"]).read_bytes() for row in rows}) == 3


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--method", "dass", "--out", "x.json"), "unknown method 'dass'"),
        (("--method", "clip", "--out", "x.json"), "--clip"),
        (("--out", "x.txt"), "should end in .json"),
        (("--damping", "little", "--out", "x.json"), "--damping"),
        (("--damping", "directions:-2", "--out", "x.json"), "above 0"),
        (("--damping", "best:2", "--out", "x.json"), "damping_rule"),
        (("--queries", "drawn=elsewhere", "--out", "x.json"), "no name of its own"),
        (("--probes", "3", "--out", "x.json"), "square number"),
        (("--fraction", "0.25", "--out", "x.json"), "was measured otherwise (design)"),
        (("--loss-draws", "2", "--out", "x.json"), "was measured otherwise (measurement)"),
        (("--subsets", "3", "--out", "x.json"), "more subsets"),
    ],
)
def test_bad_input_is_one_line(
    more: tuple[str, ...], said: str, place: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    out = [tmp_path / word if word.startswith("x.") else word for word in more]
    finished = headwater(*asked(place, tiny_folder, *out), code=2)
    assert said in finished.stderr
    assert finished.stderr.strip().count("\n") == 0
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_another_origin_needs_a_training_command(
    tiny_ddpm: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    finished = headwater(
        *("evaluate", "retrain", "--data", tiny_folder, "--queries", tiny_folder / "ada"),
        *("--truth", tmp_path / "truth.npz", "--model", tiny_ddpm),
        code=2,
    )
    assert "training.json" in finished.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--widths", "wide"), "--widths"),
        (("--widths", "6"), "multiples of 4"),
        (("--epochs", "0"), "epochs"),
        (("--data", "nowhere"), "nowhere is not a folder"),
    ],
)
def test_training_names_what_cannot_be(
    options: tuple[str, ...], said: str, tiny_folder: Path, tmp_path: Path
) -> None:
    arguments = ("train", "--data", tiny_folder, "--out", tmp_path / "model", *options)
    finished = headwater(*arguments, code=2)
    assert said in finished.stderr
    assert not (tmp_path / "model").exists()
