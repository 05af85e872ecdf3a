"""The command as users run it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import typer.main
from typer.core import TyperCommand, TyperGroup
from typer.testing import CliRunner

from attribution.index.config import IndexConfig
from attribution.methods import METHODS
from cli.main import app

COMMANDS = (
    "serve",
    "migrate",
    "index",
    "attribute",
    "scores",
    "methods",
    "demo-data",
    "demo",
)


def headwater(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=False,
    )


def refusal(finished: subprocess.CompletedProcess[str]) -> str:
    """The one line that a refused command prints."""
    assert finished.returncode == 1
    assert finished.stdout == ""
    (line,) = finished.stderr.splitlines()
    assert line.startswith("headwater: ")
    return line.removeprefix("headwater: ")


@pytest.fixture
def nobody() -> str:
    """The URL of a port on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def test_help_is_a_tour() -> None:
    shown = CliRunner().invoke(app, ["--help"])
    assert shown.exit_code == 0
    for command in COMMANDS:
        assert command in shown.output
    for step in ("headwater demo", "headwater serve", "headwater index", "headwater attribute"):
        assert step in shown.output


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"])
    assert shown.exit_code == 0


@pytest.mark.parametrize("command", ["index", "scores"])
def test_the_configuration_is_all_there(command: str) -> None:
    """Every knob has an option; the method das-t keeps timesteps apart, --damping says the rule."""
    found = typer.main.get_command(app).commands[command]  # type: ignore[attr-defined]
    options = {parameter.name for parameter in found.params}
    assert {field.name for field in fields(IndexConfig)} <= options | {
        "average_timesteps",
        "damping_rule",
    }


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys; import cli.main;"
        "print({'torch', 'numpy', 'httpx', 'sqlalchemy', 'fastapi'} & set(sys.modules))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "set()"


def test_methods_lists_the_table() -> None:
    shown = CliRunner().invoke(app, ["methods"])
    assert shown.exit_code == 0
    for name, method in METHODS.items():
        assert name in shown.output
        assert method.section.split(",")[0] in shown.output


def test_unknown_picture() -> None:
    assert refusal(headwater("attribute", "no-such.png")) == "no-such.png does not exist"


def test_folder_for_a_picture(tmp_path: Path) -> None:
    assert refusal(headwater("attribute", tmp_path)) == f"{tmp_path} is no file"


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("picture.png", "--prompt", "a cat"),
        ("picture.png", "--seed", "1"),
        ("--prompt", "a cat", "--caption", "a cat"),
    ],
)
def test_contradictions(arguments: tuple[str, ...]) -> None:
    assert "IMAGE" in refusal(headwater("attribute", *arguments)).replace("--prompt", "IMAGE")


def test_no_server(nobody: str, tmp_path: Path) -> None:
    hint = f"no server at {nobody}: start one with `headwater serve`"
    assert refusal(headwater("attribute", "--prompt", "a cat", "--server", nobody)) == hint
    folders = ("--model", tmp_path, "--clip", tmp_path, "--data", tmp_path)
    assert refusal(headwater("index", *folders, HEADWATER_SERVER=nobody)) == hint


def test_address_that_is_none() -> None:
    assert "nonsense" in refusal(headwater("attribute", "--prompt", "a", "--server", "nonsense"))


def test_wrong_settings() -> None:
    assert "HEADWATER_TORCH_THREADS" in refusal(headwater("migrate", HEADWATER_TORCH_THREADS="0"))


def test_database_out_of_reach(nobody: str) -> None:
    url = nobody.replace("http:", "postgresql+psycopg:") + "/headwater"
    told = refusal(headwater("migrate", HEADWATER_DATABASE_URL=url))
    assert told.startswith("the database cannot be reached")
    assert refusal(headwater("serve", HEADWATER_DATABASE_URL=url)) == told


@pytest.mark.parametrize("url", ["none", "mysql://host/name", "postgresql://host/name"])
def test_database_that_is_not_served(url: str) -> None:
    assert "HEADWATER_DATABASE_URL" in refusal(headwater("migrate", HEADWATER_DATABASE_URL=url))


def test_migrate_twice(tmp_path: Path) -> None:
    for _ in range(2):
        finished = headwater("migrate", HEADWATER_HOME=str(tmp_path))
        assert finished.returncode == 0, finished.stderr
    assert (tmp_path / "headwater.db").is_file()


def test_demo_data(tmp_path: Path) -> None:
    finished = headwater("demo-data", tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == f"398 images in {tmp_path}\n"
    rows = [json.loads(line) for line in (tmp_path / "metadata.jsonl").read_text().splitlines()]
    assert len(rows) == len(list(tmp_path.rglob("*.png"))) == 398
    assert {row["licence"] for row in rows} == {"CC-BY-4.0", "CC-BY-SA-4.0"}


def test_demo_data_where_nobody_may_write(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    told = refusal(headwater("demo-data", tmp_path / "file"))
    assert told == f"{tmp_path / 'file'}: File exists"


def commands() -> dict[str, TyperCommand]:
    """Every command by its words, those of groups included."""
    found: dict[str, TyperCommand] = {}

    def look(group: TyperGroup, words: str) -> None:
        for name, command in group.commands.items():
            if isinstance(command, TyperGroup):
                look(command, f"{words}{name} ")
            elif isinstance(command, TyperCommand):
                found[words + name] = command

    whole = typer.main.get_command(app)
    assert isinstance(whole, TyperGroup)
    look(whole, "")
    return found


def test_every_command_that_ends_tells_programs_how() -> None:
    """`serve` does not end, and `demo` is a show."""
    silent = {
        words
        for words, command in commands().items()
        if not any("--json" in parameter.opts for parameter in command.params)
    }
    assert silent == {"serve", "demo"}


def test_methods_as_json() -> None:
    finished = headwater("methods", "--json")
    listed = {row["method"]: row for row in json.loads(finished.stdout)}
    assert list(listed) == list(METHODS)
    assert listed["das"]["needs"] == ["kernel"]
    assert listed["das"]["signed"] is METHODS["das"].signed


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("headwater attr", ["attribute"]),
        ("headwater scores --method das-s", ["das-signed"]),
        ("headwater evaluate co", ["counterfactual"]),
        ("headwater attribute --candidates cl", ["clip"]),
    ],
)
def test_completions(line: str, offered: list[str]) -> None:
    """As bash asks for them, of the installed program."""
    asked = {
        "_HEADWATER_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split()) - 1),
    }
    finished = subprocess.run(
        [Path(sys.executable).with_name("headwater")],
        capture_output=True,
        text=True,
        env=os.environ | asked,
        check=False,
    )
    assert finished.stdout.split() == offered, finished.stderr
