"""One command, one machine: HTTP, a real Celery worker, relay and reaper, under one supervisor."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

import httpx

from app import logs
from app.config import Settings
from cli.installation import migrated_database

GRACE_SECONDS = 5.0  # what programs take to end once their work has
START_SECONDS = 60.0
LONGEST_BACK_OFF = 30.0
PR_SET_PDEATHSIG = 1

logger = logging.getLogger(__name__)
_libc = ctypes.CDLL(None)


class Child:
    """A child process that is started again when it dies, ever more slowly."""

    def __init__(
        self,
        name: str,
        command: list[str],
        environment: dict[str, str],
        output: BinaryIO | None = None,
    ) -> None:
        self.name = name
        self.command = command
        self.environment = environment
        self.output = output
        self.failures = 0
        self.start()

    def start(self) -> None:
        """Start the process; it dies with this one, however that ends."""
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            self.command,
            env=self.environment,
            stdout=self.output,
            stderr=self.output,
            start_new_session=True,  # Ctrl-C is for the supervisor, which stops the others in turn
            preexec_fn=_die_with_parent(os.getpid()),  # noqa: PLW1509 - it takes no locks
        )

    def revive(self) -> None:
        """Start it again if it has died and the back-off is over."""
        code = self.process.poll()
        if code is None:
            return
        lived = time.monotonic() - self.started
        if lived > LONGEST_BACK_OFF:
            self.failures = 0
        if lived > min(LONGEST_BACK_OFF, 0.5 * 2**self.failures):
            self.failures += 1
            logger.warning("%s ended with code %d: starting it again", self.name, code)
            self.start()

    def stop(self, deadline: float) -> None:
        """Wait for the end until ``deadline`` (monotonic), then kill."""
        try:
            self.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def serve(settings: Settings, host: str, port: int) -> None:
    """Run everything until SIGTERM or SIGINT, or until the HTTP server ends.

    A job that is running at the end and does not finish within ``drain_seconds`` goes back to the
    queue, for the next start.
    """
    logs.configure(settings.log_format, "supervisor")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    environment = os.environ | settings.to_environment()
    children = [
        Child(name, [sys.executable, "-m", *arguments], environment)
        for name, arguments in _programs(settings, host, port)
    ]
    web = children[0]
    try:
        while not stop.wait(0.2) and web.process.poll() is None:
            for child in children[1:]:
                child.revive()
    finally:
        for child in children:
            if child.process.poll() is None:
                child.process.terminate()
        deadline = time.monotonic() + settings.drain_seconds + GRACE_SECONDS
        for child in children:
            child.stop(deadline)
    if not stop.is_set():
        raise SystemExit(web.process.returncode or 1)


@contextmanager
def running_server(settings: Settings) -> Iterator[str]:
    """Everything that ``serve`` runs, on a free port; yields the base URL once it is ready.

    What the processes say goes to ``server.log`` in the settings' home.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "cli.serve", "127.0.0.1", str(port)]
    settings.home.mkdir(parents=True, exist_ok=True)
    url = f"http://127.0.0.1:{port}"
    with (settings.home / "server.log").open("ab") as log:
        supervisor = Child("server", command, os.environ | settings.to_environment(), log)
        try:
            _wait_until_ready(supervisor.process, url)
            yield url
        finally:
            supervisor.process.terminate()
            supervisor.stop(time.monotonic() + settings.drain_seconds + 2 * GRACE_SECONDS)


def _programs(settings: Settings, host: str, port: int) -> list[tuple[str, list[str]]]:
    return [
        ("http server", ["app.server", host, str(port)]),
        ("gpu worker", _worker(settings.gpu_queue, settings.concurrency)),
        ("cpu worker", _worker(settings.cpu_queue, 1)),
        ("relay", ["workers.relay"]),
    ]


def _worker(queue: str, processes: int) -> list[str]:
    pool = ["--pool", "prefork", "--concurrency", str(processes)]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    name = ["--hostname", f"{queue}@%h"]  # two workers of one name warn of each other
    return [
        *["celery", "--quiet", "-A", "workers.celery_app", "worker", "-Q", queue],
        *["--loglevel", "INFO"],
        *[*pool, *quiet, *name],
    ]


def _die_with_parent(parent: int) -> Callable[[], None]:
    def ask_kernel() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the kernel was asked
            os._exit(1)

    return ask_kernel


def _wait_until_ready(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with code {process.returncode}")
        try:
            if httpx.get(f"{url}/readyz", timeout=2).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise TimeoutError(f"the server was not ready within {START_SECONDS:.0f} s")


def main() -> None:
    """``python -m cli.serve HOST PORT``, with settings from the environment."""
    with migrated_database():
        pass
    serve(Settings(), sys.argv[1], int(sys.argv[2]))


if __name__ == "__main__":
    main()
