"""Retraining in real processes: repeatable, resumable, and clear when a training fails."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attribution.denoisers import Denoiser
from attribution.errors import InputError
from attribution.evaluation.ground_truth import GroundTruth, GroundTruthError
from attribution.evaluation.losses import simple_losses
from attribution.evaluation.retraining import (
    CommandTrainer,
    DdpmTrainer,
    Measurement,
    Plan,
    RetrainingError,
    Trainer,
    planned,
    retrain,
)
from attribution.evaluation.subsets import draw_subsets
from attribution.image_set import ImageSet
from attribution.training import DdpmTraining, train_ddpm, training_images

SMALL = DdpmTraining(image_size=8, widths=(8, 8), epochs=2, batch_size=4)
BUILT_IN = DdpmTrainer(SMALL)
TRAIN = (
    f"{shlex.quote(sys.executable)} -m cli.main train --data {{data}} --out {{out}} --seed {{seed}}"
    " --image-size 8 --channels 1 --widths 8,8 --epochs 2 --batch-size 4 --threads 1"
)


@pytest.fixture
def folders(tiny_folder: Path) -> dict[str, Path]:
    return {"all": tiny_folder, "ada": tiny_folder / "ada"}


def plan_of(folders: dict[str, Path], trainer: Trainer = BUILT_IN) -> Plan:
    return Plan(trainer, folders["all"], {"ada": folders["ada"]}, Measurement(timesteps=2))


def truth_of(plan: Plan, subsets: int = 2, seeds: int = 1) -> GroundTruth:
    keys = [sample.key for sample in ImageSet(plan.data).samples]
    return GroundTruth.planned(
        keys,
        plan.query_keys(),
        draw_subsets(["x"] * len(keys), subsets, 0.5, 0),
        list(range(seeds)),
        plan.protocol(fraction=0.5),
    )


def test_processes_measure_what_training_here_measures(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    plan = plan_of(folders)
    truth, path = truth_of(plan), tmp_path / "truth.npz"
    told: list[tuple[int, int]] = []
    retrain(plan, truth, path, processes=2, on_progress=lambda *now: told.append(now))
    assert told == [(0, 2), (1, 2), (2, 2)]
    images = training_images(ImageSet(plan.data), SMALL.shape)
    for j, members in enumerate(truth.members):
        denoiser = Denoiser(train_ddpm(images[members], SMALL, 0))
        here = simple_losses(denoiser, ImageSet(folders["ada"]), timesteps=2)
        np.testing.assert_allclose(truth.losses[j, 0], here, rtol=1e-4)
    assert np.array_equal(GroundTruth.read(path).losses, truth.losses)


def test_a_command_trains_the_same_models(folders: dict[str, Path], tmp_path: Path) -> None:
    measured = []
    for trainer in (BUILT_IN, CommandTrainer(TRAIN)):
        plan = plan_of(folders, trainer)
        truth = truth_of(plan, subsets=1)
        retrain(plan, truth, tmp_path / "truth.npz", processes=1)
        measured.append(truth.losses)
    np.testing.assert_allclose(*measured, rtol=1e-4)


def test_goes_on_from_what_is_there(folders: dict[str, Path], tmp_path: Path) -> None:
    plan, path = plan_of(folders), tmp_path / "truth.npz"
    first = truth_of(plan)
    first.losses[0] = 0.25  # a model that nobody needs to train again
    first.write(path)
    more = planned(path, truth_of(plan, subsets=3))
    retrain(plan, more, path, processes=2)
    assert more.measured.all()
    assert (more.losses[0] == 0.25).all()
    assert not (more.losses[1:] == 0.25).any()


def test_another_protocol_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "truth.npz"
    truth_of(plan_of(folders)).write(path)
    other = plan_of(folders, DdpmTrainer(DdpmTraining(image_size=8, widths=(8, 8), epochs=3)))
    with pytest.raises(GroundTruthError, match="training"):
        planned(path, truth_of(other))
    with pytest.raises(GroundTruthError, match="more subsets"):
        planned(path, truth_of(plan_of(folders), subsets=1))


def test_other_pixels_are_another_protocol(folders: dict[str, Path], tmp_path: Path) -> None:
    before = plan_of(folders).protocol()
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", folders["all"], copy], check=True)
    same = plan_of({"all": copy, "ada": copy / "ada"})
    assert same.protocol() == before
    Image.new("RGB", (16, 16), "green").save(copy / "ada" / "disc.png")
    assert same.protocol() != before


def test_an_interrupted_run_keeps_every_model_that_was_done(
    tiny_folder: Path, tmp_path: Path
) -> None:
    """Ctrl-C in the terminal, that is in every process; then the same command again."""
    model = tmp_path / "model"
    small = ("--image-size", "8", "--channels", "1", "--widths", "8,8")
    headwater = [sys.executable, "-m", "cli.main"]
    subprocess.run(
        [*headwater, "train", "--data", tiny_folder, "--out", model, *small, "--epochs", "40"],
        check=True,
    )
    command = [*headwater, "evaluate", "retrain", "--data", str(tiny_folder), "--model", str(model)]
    command += ["--queries", str(tiny_folder / "ada"), "--truth", str(tmp_path / "truth.npz")]
    command += ["--subsets", "6", "--loss-timesteps", "2", "--processes", "2"]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    path = tmp_path / "truth.npz"
    deadline = time.monotonic() + 120
    while not path.is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "goes on from here" in said
    assert "Traceback" not in said
    known = GroundTruth.read(path)
    done = known.measured
    assert 0 < done.sum() < done.size
    subprocess.run(command, check=True)
    whole = GroundTruth.read(path)
    assert whole.measured.all()
    assert np.array_equal(whole.losses[done], known.losses[done])


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("false {data} {out} {seed}", "ended with 1"),
        ("no-such-trainer {data} {out} {seed}", "cannot be run"),
        ("true {data} {out} {seed}", "no model_index.json"),
    ],
)
def test_a_training_that_fails_says_why(
    command: str, said: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    plan = plan_of(folders, CommandTrainer(command))
    with pytest.raises(InputError, match=said):
        retrain(plan, truth_of(plan, subsets=1), tmp_path / "truth.npz", processes=1)


def test_a_command_must_say_where_everything_is() -> None:
    with pytest.raises(RetrainingError, match=r"\{seed\}"):
        CommandTrainer("train {data} {out}")
