"""``headwater serve``: revives its children, stops in order, and leaves no orphans."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.config import Settings

SECONDS = 30.0


def family(home: Path) -> dict[int, str]:
    """Processes that were started with this home, and their command lines."""
    found = {}
    mark = f"HEADWATER_HOME={home}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                found[int(process.name)] = command
        except OSError:
            continue  # it has just ended, or is not ours
    return found


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.1)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path.resolve() / "var"


@pytest.fixture
def supervisor(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    settings = Settings(home=home)
    command = [sys.executable, "-m", "cli.serve", "127.0.0.1", "0"]
    with subprocess.Popen(command, env=os.environ | settings.to_environment()) as process:
        programs = ("app.server", "celery", "workers.relay")
        wait_until(
            lambda: all(name in " ".join(family(home).values()) for name in programs), "the start"
        )
        # Each worker's pool: a process beside its parent with the same command line.
        for queue in (settings.gpu_queue, settings.cpu_queue):
            wait_until(lambda: len(workers(home, queue)) == 2, "the worker's pool")  # noqa: B023
        yield process
        for pid in family(home):
            os.kill(pid, signal.SIGKILL)


def workers(home: Path, queue: str = "headwater-gpu") -> list[int]:
    return sorted(pid for pid, command in family(home).items() if f" {queue} " in command)


def test_a_killed_worker_is_revived_and_sigterm_ends_all(
    supervisor: subprocess.Popen[bytes], home: Path
) -> None:
    before = workers(home)
    os.kill(before[0], signal.SIGKILL)
    wait_until(lambda: len(workers(home)) == 2 and not set(before) & set(workers(home)), "revival")
    supervisor.terminate()
    assert supervisor.wait(SECONDS) == 0
    assert family(home) == {}


def test_a_killed_supervisor_leaves_no_orphans(
    supervisor: subprocess.Popen[bytes], home: Path
) -> None:
    supervisor.kill()
    supervisor.wait()
    wait_until(lambda: family(home) == {}, "the end of all children")
