"""``headwater scores``: a file of scores, the same after an interruption, and clear refusals."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from attribution.denoisers import Denoiser, Drawing
from attribution.methods import METHODS
from cli.main import main

SMALL = ("--timesteps", "2", "--projection-dim", "200", "--threads", "1")
QUERIES = (1, 2, 3)


@pytest.fixture(scope="module")
def drawn(trained_ddpm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures that the model drew, with the seeds from which it did."""
    root = tmp_path_factory.mktemp("drawn")
    denoiser = Denoiser.load(trained_ddpm)
    rows = []
    for seed in QUERIES:
        denoiser.generate("", Drawing(seed)).save(root / f"{seed}.png")
        rows.append(json.dumps({"file_name": f"{seed}.png", "seed": seed}))
    (root / "metadata.jsonl").write_text("\n".join(rows))
    return root


def headwater(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli.main", "scores", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def score(
    trained_ddpm: Path, tiny_folder: Path, drawn: Path, tiny_clip: Path, tmp_path: Path
) -> Callable[..., Path]:
    def run(*arguments: object, name: str = "scores.npz") -> Path:
        out = tmp_path / name
        folders = ("--data", tiny_folder, "--queries", drawn, "--out", out)
        models = ("--model", trained_ddpm, "--clip", tiny_clip)
        finished = headwater(*folders, *models, *SMALL, *arguments)
        assert finished.returncode == 0, finished.stderr
        assert f"{out}: 3 × 12 scores" in finished.stdout
        return out

    return run


@pytest.fixture(scope="module")
def in_process(
    trained_ddpm: Path, tiny_folder: Path, drawn: Path, tiny_clip: Path
) -> Callable[[str, Path], Path]:
    from cli.scores import Task, run

    def compute(method: str, out: Path) -> Path:
        knobs = {"timesteps": 2, "projection_dim": 200}
        models = (trained_ddpm, str(tiny_clip))
        run(Task(method, tiny_folder, drawn, out, *models, None, "refuse", "cpu", knobs))
        return out

    return compute


@pytest.mark.parametrize("method", METHODS)
def test_every_method_writes_its_scores(
    method: str, in_process: Callable[[str, Path], Path], tmp_path: Path
) -> None:
    file = np.load(in_process(method, tmp_path / "scores.npz"))
    scores = file["scores"]
    assert (scores.dtype, scores.shape) == (np.float32, (3, 12))
    assert np.isfinite(scores).all()
    assert (scores.std(axis=1) > 0).all()
    assert METHODS[method].signed or (scores >= 0).all()
    assert list(file["query_keys"]) == ["1.png", "2.png", "3.png"]
    assert list(file["train_keys"]) == sorted(file["train_keys"])
    assert file["train_keys"][0] == "ada/cross.png"
    assert json.loads(str(file["configuration"]))["method"] == method
    assert [path.name for path in tmp_path.iterdir()] == ["scores.npz"]


def test_a_picture_is_most_like_itself(
    in_process: Callable[[str, Path], Path], tiny_folder: Path, tiny_ddpm: Path, tmp_path: Path
) -> None:
    """Training images as queries: by pixels and by gradients each finds itself first."""
    for method in ("raw-pixel-cosine", "das"):
        out = tmp_path / f"{method}.npz"
        folders = ("--data", tiny_folder, "--queries", tiny_folder / "ada")
        finished = headwater(
            *folders, "--model", tiny_ddpm, "--method", method, "--out", out, *SMALL, "--top", 1
        )
        assert finished.returncode == 0, finished.stderr
        file = np.load(out)
        first = file["train_keys"][file["scores"].argmax(axis=1)]
        assert [f"ada/{key}" for key in file["query_keys"]] == list(first)
        assert f"{first[0]}" in finished.stdout


def test_candidates_score_and_others_are_zero(score: Callable[..., Path]) -> None:
    """As in Table 7: what CLIP does not choose has no influence."""
    whole = np.load(score("--method", "trak"))["scores"]
    some = np.load(score("--method", "trak", "--clip-candidates", 4))["scores"]
    assert ((some != 0).sum(axis=1) == 4).all()
    np.testing.assert_array_equal(some[some != 0], whole[some != 0])


def test_knobs_change_the_configuration_and_the_scores(score: Callable[..., Path]) -> None:
    plain = np.load(score("--method", "das"))
    knobs = {
        "--probes": 9,
        "--schedule": "cumulative",
        "--draws": 2,
        "--normalisation": "timestep",
        "--parameters": "up_blocks",
        "--projection": "rademacher",
        "--damping": "directions:10",
        "--store": "bfloat16",
        "--seed": 3,
        "--checkpoints": 2,
    }
    file = np.load(score("--method", "das", *(x for pair in knobs.items() for x in pair)))
    configuration = json.loads(str(file["configuration"]))
    assert (configuration["probes"], configuration["damping_rule"]) == (9, "directions")
    assert (configuration["draws"], configuration["projection"]) == (2, "rademacher")
    assert len(configuration["dampings_absolute"]) == 2
    assert np.abs(file["scores"] - plain["scores"]).max() > 0


def test_interrupted_and_resumed_is_the_same_file(
    score: Callable[..., Path], trained_ddpm: Path, tiny_folder: Path, drawn: Path, tmp_path: Path
) -> None:
    """Ctrl-C in the middle of the training images; what was done is not done again."""
    data = tmp_path / "many"
    shutil.copytree(tiny_folder, data)
    (data / "metadata.jsonl").unlink()
    disc = Image.open(data / "ada" / "disc.png")
    for size in range(17, 25):
        disc.resize((size, size)).save(data / f"{size}.png")
    out, whole = tmp_path / "resumed.npz", tmp_path / "whole.npz"
    arguments = ("--data", data, "--queries", drawn, "--model", trained_ddpm, "--method", "das")
    small = ("--timesteps", 50, "--projection-dim", 200, "--threads", 1)
    assert headwater(*arguments, *small, "--out", whole).returncode == 0

    command = [sys.executable, "-m", "cli.main", "scores", *arguments, *small, "--out", out]
    # Tests that a shell runs in the background have SIGINT ignored, and so would their children.
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen([str(part) for part in command], stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, ignored)
    first = tmp_path / "resumed.npz.partial" / "train" / "shards" / "000000.safetensors"
    deadline = time.monotonic() + 60
    while not first.exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert told.splitlines()[-1] == "headwater: interrupted; the same command goes on from here"
    assert not out.exists()
    written = first.stat().st_mtime_ns
    assert not first.with_name("000001.safetensors").exists()

    kept = tmp_path / "kept"
    os.link(first, kept)  # the finished run removes what it has used
    assert headwater(*arguments, *small, "--out", out).returncode == 0
    assert kept.stat().st_mtime_ns == written
    assert out.read_bytes() == whole.read_bytes()


@pytest.fixture
def refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run the command in this process; the one line that it leaves, with exit code 2."""

    def run(*arguments: object) -> str:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["headwater", "scores", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        (line,) = (line for line in capsys.readouterr().err.splitlines() if "checking" not in line)
        assert ended.value.code == 2, line
        return line

    return run


def test_bad_input_is_one_line(
    refused: Callable[..., str],
    tiny_ddpm: Path,
    tiny_folder: Path,
    tiny_clip: Path,
    drawn: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / "out" / "scores.npz"
    out.parent.mkdir()
    empty = tmp_path / "empty"
    empty.mkdir()
    nan = tmp_path / "nan"
    shutil.copytree(tiny_ddpm, nan)
    weights = nan / "unet" / "diffusion_pytorch_model.safetensors"
    broken = load_file(weights)
    broken["conv_in.weight"][0, 0, 0, 0] = torch.nan
    save_file(broken, weights)

    given = {
        "--data": tiny_folder,
        "--queries": drawn,
        "--model": tiny_ddpm,
        "--method": "das",
        "--out": out,
        "--timesteps": 2,
        "--projection-dim": 200,
    }

    def told(**changed: object) -> str:
        options = given | {f"--{name.replace('_', '-')}": value for name, value in changed.items()}
        return refused(*(part for pair in options.items() for part in pair))

    assert "is not a folder" in told(data=tmp_path / "none")
    assert "holds no images" in told(data=empty)
    assert "has no model_index.json" in told(model=tiny_clip)
    assert "NaN or infinity in conv_in.weight" in told(model=nan)
    assert "should have folders checkpoint-<step>/unet" in told(method="tracin")
    assert "larger than the" in told(projection_dim=60_000)
    assert "unknown method 'magic'" in told(method="magic")
    assert "--clip: name the open_clip directory" in told(method="clip")
    assert "no open_clip_config.json" in told(method="clip", clip=tiny_ddpm)
    assert "ada/cross.png has no seed" in told(method="journey-trak", queries=tiny_folder)
    assert "square number" in told(probes=5)
    assert "cannot be computed with output loss" in told(output="loss")
    assert "do not fit" in told(probes=256)
    assert "timesteps must" in told(timesteps=2000)
    assert "no regular expression" in told(parameters="(")
    assert "selects no layer" in told(parameters="lora")
    assert "--damping" in told(damping="much")
    assert "should end in .npz" in told(out=tmp_path / "scores.txt")
    assert "no such folder" in told(out=tmp_path / "none" / "scores.npz")
    assert "repeats a group" in told(parameters=r"(\w+\.?)+!")
    assert "cannot be used" in told(device="abacus")
    (model_index := tmp_path / "wrong" / "model_index.json").parent.mkdir()
    model_index.write_text('{"_class_name": "FluxPipeline"}')
    assert "FluxPipeline is not supported yet" in told(model=model_index.parent)
    assert list(out.parent.iterdir()) == []

    (out.parent / "scores.npz.partial").mkdir()
    with (out.parent / "scores.npz.partial" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another run is writing" in told()
    (out.parent / "scores.npz.partial" / "lock").unlink()
    (out.parent / "scores.npz.partial").rmdir()
    (out.parent / "scores.npz.partial").write_text("")
    assert "cannot be written" in told()


def test_a_broken_image_is_named_and_refused_or_skipped(
    refused: Callable[..., str], tiny_folder: Path, tiny_ddpm: Path, drawn: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(tiny_folder, data)
    (data / "metadata.jsonl").unlink()
    whole = (data / "ada" / "disc.png").read_bytes()
    (data / "ada" / "disc.png").write_bytes(whole[: len(whole) // 2])
    (data / "bob" / "text.png").write_text("no picture")
    Image.open(data / "bob" / "ring.png").convert("L").save(data / "bob" / "ring.png")
    out = tmp_path / "scores.npz"
    arguments = ("--data", data, "--queries", drawn, "--model", tiny_ddpm, "--out", out)
    line = refused(*arguments, "--method", "raw-pixel")
    assert "ada/disc.png" in line
    assert "(and 1 more)" in line
    assert not out.exists()
    finished = headwater(*arguments, "--method", "raw-pixel", "--broken", "skip")
    assert finished.returncode == 0, finished.stderr
    assert "bob/text.png" in finished.stderr
    keys = list(np.load(out)["train_keys"])
    assert len(keys) == 11
    assert "ada/disc.png" not in keys
