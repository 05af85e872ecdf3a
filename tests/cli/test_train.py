"""``headwater train --base``: a LoRA that every other command takes for a model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from attribution.denoisers import Denoiser
from cli.errors import BadInputError
from cli.main import app


def run(*arguments: str | Path) -> None:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output


def test_a_lora_is_trained_and_asked(
    latent_model: Callable[[str], Path], tiny_folder: Path, tmp_path: Path
) -> None:
    lora, scores = tmp_path / "lora", tmp_path / "scores.npz"
    small = ("--rank", "2", "--epochs", "2", "--batch-size", "4", "--layers", "to_q,to_v")
    run("train", "--base", latent_model("sd"), "--data", tiny_folder, "--out", lora, *small)
    assert Denoiser.load(lora).adapted
    record = json.loads((lora / "training.json").read_text())
    assert (record["trainer"], record["training"]["layers"]) == ("lora", ["to_q", "to_v"])
    asked = ("--model", lora, "--data", tiny_folder, "--queries", tiny_folder / "ada")
    run("scores", *asked, "--method", "das", "--projection-dim", "32", "--out", scores)
    with np.load(scores) as content:
        assert content["scores"].shape == (6, 12)
        configuration = json.loads(str(content["configuration"]))
    assert configuration["parameters"] == "lora"


@pytest.mark.parametrize(("options", "told"), [
    (("--rank", "4"), "--rank is of a LoRA: say --base too"),
    (("--base", "nowhere", "--widths", "8"), "--widths is the model's own: it goes without"),
    (("--base", "nowhere", "--half-precision"), "--half-precision goes without --base"),
    (("--base", "nowhere"), r"has no model_index\.json"),
])  # fmt: skip
def test_options_that_do_not_go_together(
    tiny_folder: Path, tmp_path: Path, options: tuple[str, ...], told: str
) -> None:
    with pytest.raises(BadInputError, match=told):
        run("train", "--data", tiny_folder, "--out", tmp_path / "out", *options)
