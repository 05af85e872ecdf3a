"""``headwater plan``: what an index will cost, of a model here and of one that is described."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from typer.testing import CliRunner

from cli.main import app
from cli.planning import lasting, sized


def planned(*arguments: str) -> dict[str, dict[str, object]]:
    result = CliRunner().invoke(app, ["plan", *arguments, "--json"])
    assert result.exit_code == 0, result.output
    found: dict[str, dict[str, object]] = json.loads(result.stdout)
    return found


def test_a_described_model() -> None:
    found = planned("sd15-lora", "--n", "1000000", "--budget", "2048")
    assert found["config"]["parameters"] == "lora"
    assert found["config"]["projection_dim"] == 256
    assert found["plan"]["parameters"] == 25_509_888
    assert found["plan"]["seconds"] is None
    table = CliRunner().invoke(app, ["plan", "sd15-lora", "--n", "10"]).stdout
    assert "25,509,888 of 885,030,852 (3%)" in table


def test_a_model_with_a_lora_is_timed(latent_model: Callable[[str], Path], tiny_lora: Path) -> None:
    found = planned(
        str(latent_model("sd")), "--lora", str(tiny_lora), "--n", "7",
        "--projection-dim", "64", "--timed", "2",
    )  # fmt: skip
    assert found["config"]["parameters"] == "lora"
    assert found["plan"]["seconds_per_image"]


def test_lengths_and_sizes_for_people() -> None:
    assert [sized(n) for n in (7, 1234, 5_000_000, 18_600_000_000)] == [
        "7 B", "1.23 kB", "5 MB", "18.6 GB",
    ]  # fmt: skip
    assert [lasting(s) for s in (3, 300, 7300, 200_000)] == [
        "3 seconds", "5 minutes", "2.03 hours", "2.31 days",
    ]  # fmt: skip
