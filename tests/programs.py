"""The product's programs as children of a test, and patience with them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.config import Settings

SECONDS = 40.0
HERE = Path(__file__).parent


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"never came: {what}")


@contextmanager
def program(settings: Settings, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A child of the test in its own process group, killed with it."""
    environment = os.environ | settings.to_environment()
    environment["PYTHONPATH"] = f"{HERE / 'workers'}:{HERE.parent}"
    with subprocess.Popen(
        [sys.executable, "-m", *arguments], env=environment, start_new_session=True
    ) as child:
        try:
            yield child
        finally:
            kill(child)


def kill(child: subprocess.Popen[bytes]) -> None:
    """``kill -9`` of the process with all its children, as the OOM killer or a reboot would."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
