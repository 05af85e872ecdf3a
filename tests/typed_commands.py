"""Typing what the documentation shows: shell and Python, on a server that `headwater serve` runs.

What a reader puts into a command (an id, a path, the server's address) is put in here too; nothing
else of a command is changed, unless the page's test says so.
"""

from __future__ import annotations

import ast
import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager
from dataclasses import dataclass, field
from inspect import CO_COROUTINE
from pathlib import Path
from types import FunctionType
from typing import Any

import httpx
from documented import Block, commands
from programs import free_port, kill, wait_for

from app.config import Settings

ID = re.compile(r'"((atr|ds|idx|mdl|whk|msg|tkd)_[0-9a-z]+)"|\b(hw)_([\w-]{20,})')
ADDRESSES = ("http://localhost:8000", "localhost:8000", "https://headwater.example")
CURL = "curl --silent --show-error --fail-with-body --max-time 60"
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
PATIENCE = 30.0
"""Seconds in which a command may become possible: a signature follows its answer."""


@dataclass
class Reader:
    """Somebody who works through a page in a folder."""

    folder: Path
    url: str
    environment: Mapping[str, str]
    put_in: Mapping[str, str] = field(default_factory=dict)
    """What stands for the page's examples."""
    refused: Mapping[str, int] = field(default_factory=dict)
    """Commands that the server is to refuse, and with which status."""
    left_out: frozenset[str] = frozenset()
    """Commands that are not typed; the test says why."""
    ids: dict[str, str] = field(default_factory=dict)
    names: dict[str, Any] = field(default_factory=dict)

    def follow(self, block: Block) -> None:
        """Do what a block says."""
        if block.language == "python":
            self.run_python(block.text)
            return
        for command in commands(block):
            if command not in self.left_out:
                self.type(command)

    def type(self, command: str) -> str:
        """Run a command in bash; return its output, once it has succeeded."""
        line, status = self.filled_in(command), self.status(command)
        deadline = time.monotonic() + PATIENCE
        while True:
            finished = self.bash(line)
            said = f"{command}\n{finished.stdout}\n{finished.stderr}"
            if status is not None:
                assert f"error: {status}" in finished.stderr, said
                return finished.stdout
            if finished.returncode == 0:
                self.note(finished.stdout)
                return finished.stdout
            assert "error: 404" in finished.stderr, said  # it is not there yet
            assert time.monotonic() < deadline, said
            time.sleep(0.5)

    def bash(self, line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", line],
            cwd=self.folder,
            env={**os.environ, **self.environment, "HEADWATER_SERVER": self.url, "PATH": PATH},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=250,
        )

    def status(self, command: str) -> int | None:
        return next((code for part, code in self.refused.items() if part in command), None)

    def filled_in(self, text: str) -> str:
        for example, real in self.put_in.items():
            text = text.replace(example, real)
        for address in ADDRESSES:
            text = text.replace(address, self.url)
        text = re.sub(r"\bcurl\b", CURL, text)
        return re.sub(r"\b(atr|ds|idx|whk|msg|tkd|hw)_…", lambda found: self.ids[found[1]], text)

    def note(self, output: str) -> None:
        """Remember the ids in an output; wait for what was asked, as a reader does."""
        fresh: dict[str, str] = {}
        for whole, kind, key, secret in ID.findall(output):
            fresh.setdefault(kind or key, whole or f"{key}_{secret}")
        self.ids |= fresh
        for kind, path in (("atr", "attributions"), ("tkd", "takedowns")):
            if kind in fresh:
                self.wait(f"{self.url}/v1/{path}/{fresh[kind]}")

    def wait(self, url: str) -> None:
        def ended() -> bool:
            found = httpx.get(url, headers=self.headers()).raise_for_status().json()
            return found["status"] not in {"queued", "running"}

        wait_for(ended, url)

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.ids['hw']}"} if "hw" in self.ids else {}

    def run_python(self, text: str) -> None:
        """Run a block among the names of those before it, with ``await`` where it likes."""
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code = compile(self.filled_in(text), "<documentation>", "exec", flags=flags)
        with chdir(self.folder):
            if code.co_flags & CO_COROUTINE:
                asyncio.run(FunctionType(code, self.names)())
            else:
                exec(code, self.names)


@contextmanager
def served(folder: Path, settings: Settings) -> Iterator[tuple[str, dict[str, str]]]:
    """`headwater serve`, as a reader starts it; its address, and the environment of its shell."""
    port = free_port()
    said = settings.to_environment()
    environment = {
        name: said[name]
        for name in said
        if name.startswith(("HEADWATER_HOME", "HEADWATER_C2PA_C", "HEADWATER_C2PA_P"))
        or name.endswith("_ROOTS")
    }
    url, log = f"http://127.0.0.1:{port}", folder / "serve.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [Path(sys.executable).with_name("headwater"), "serve", "--port", str(port)],
            cwd=folder,
            env=os.environ | environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        ) as server,
    ):
        try:
            wait_for(lambda: ready(url, server), f"headwater serve: {log}")
            yield url, environment
        finally:
            kill(server)


def ready(url: str, server: subprocess.Popen[bytes]) -> bool:
    assert server.poll() is None, "headwater serve has ended"
    try:
        return httpx.get(f"{url}/readyz", timeout=2).is_success
    except httpx.HTTPError:
        return False
