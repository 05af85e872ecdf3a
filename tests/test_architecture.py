"""The rooms of the house and the arrows between them; ``docs/architecture.md`` draws them."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = {"attribution", "app", "workers", "cli", "client", "demo", "migrations"}

# Whom each room may import.  ``cli`` and ``demo`` see everything.
MAY_IMPORT = {
    "attribution": set(),
    "client": set(),
    "app": {"migrations"},
    "workers": {"app", "attribution"},
    "migrations": {"app"},
}
# How training images, models and configurations are written down, and the table of methods: the API
# reads them too.  Everything else of ``attribution`` computes.
DESCRIPTIONS = {
    "attribution.errors",
    "attribution.image_data.opening",
    "attribution.image_data.sample",
    "attribution.index.config",
    "attribution.methods",
    "attribution.model_directory",
}
HEAVY = {"torch", "numpy", "faiss", "diffusers", "transformers", "open_clip"}
SAYS_NOTHING = {"utils", "util", "helpers", "helper", "manager", "managers", "misc", "common"}
SECONDS = 1.5


def sources(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of every import, also of those inside functions."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            assert node.module
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield node.lineno, whole if is_module(whole) else node.module


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_arrows(room: str) -> None:
    assert sources(room)
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sources(room)
        for line, name in imports(path)
        if (other := name.split(".")[0]) in ROOMS - {room}
        and other not in MAY_IMPORT[room]
        and not (room == "app" and name in DESCRIPTIONS)
    ]
    assert not wrong


@pytest.mark.parametrize("room", ["app", "migrations"])
def test_the_api_computes_nothing(room: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sources(room)
        for line, name in imports(path)
        if name.split(".")[0] in HEAVY
    ]
    assert not wrong


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_tables_are_made_by_migrations_alone(room: str) -> None:
    assert not [path for path in sources(room) if ".create_all(" in path.read_text()]


def test_names_say_what_is_inside() -> None:
    parts = {
        part: path
        for room in ROOMS
        for path in sources(room)
        for part in path.relative_to(ROOT).with_suffix("").parts
    }
    assert not SAYS_NOTHING & set(parts)


def test_the_api_starts_fast_and_without_torch() -> None:
    # CPU time, which other programs on the machine do not lengthen.
    program = (
        "import json, sys, time; start = time.process_time(); import app.main;"
        "print(json.dumps([time.process_time() - start, sorted(sys.modules)]))"
    )
    seconds = []
    for _ in range(3):
        child = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
        )
        took, modules = json.loads(child.stdout)
        assert not HEAVY & set(modules)
        seconds.append(took)
    assert min(seconds) < SECONDS
