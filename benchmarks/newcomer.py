"""A newcomer's path, timed: from a clone to an answer about a model and pictures of one's own.

It works through docs/start.md in a fresh clone of this repository, command by command as they stand
there, with 500 coats of Fashion-MNIST (``apt-get install dataset-fashion-mnist``) for the reader's
pictures.  Two commands are put in place of others: the clone is one of this directory, and the CLIP
is the demo's, as the page says for those without the internet.

    python benchmarks/newcomer.py
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
from fashion import CLASSES, read_images, shrink
from report import Report

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from documented import blocks, commands  # noqa: E402 - it lies beside the tests that use it too

PAGE = "docs/start.md"
IMAGES = 500
SERVER = "headwater serve"
MINUTES_WANTED = 30


def write_pictures(folder: Path) -> None:
    """Coats, with a ``metadata.jsonl`` that says whose they are."""
    folder.mkdir()
    rows = []
    pictures, labels = read_images("train")
    coats = pictures[labels == CLASSES.index("coat")][:IMAGES]
    for number, coat in enumerate(coats):
        shrink(coat).save(folder / f"{number:03}.png")
        creator = ("Ada", "Bob", "Cléo")[number % 3]
        rows.append({"file_name": f"{number:03}.png", "creator": creator, "licence": "MIT"})
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))


class Terminal:
    """A shell that stays, so that ``cd``, ``export`` and ``activate`` do."""

    def __init__(self, folder: Path, log: Path) -> None:
        self.log = log.open("w")
        self.shell = subprocess.Popen(
            ["bash"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            cwd=folder,
            start_new_session=True,
        )

    def run(self, command: str) -> str:
        """Type a command and wait for its end; its output."""
        assert self.shell.stdin
        assert self.shell.stdout
        self.shell.stdin.write(f"{command}\necho ended $?\n")
        self.shell.stdin.flush()
        said = ""
        for line in self.shell.stdout:
            said += line
            if line.startswith("ended "):
                break
        if not said.endswith("ended 0\n"):
            raise SystemExit(f"{command}\n{said}\n{Path(self.log.name).read_text()[-3000:]}")
        return said

    def leave_running(self, command: str, url: str) -> None:
        """Type a command that does not end, and wait until it answers."""
        assert self.shell.stdin
        self.shell.stdin.write(f"{command}\n")
        self.shell.stdin.flush()
        while True:
            try:
                if httpx.get(url).is_success:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.2)

    def close(self) -> None:
        """End it with all that runs in it."""
        os.killpg(self.shell.pid, signal.SIGTERM)
        self.shell.wait()
        self.log.close()


def main() -> None:
    """Time each command of the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path)
    report = Report("newcomer", parser.parse_args().out)
    instead = {
        "git clone": (
            f"git clone -q {ROOT} headwater && cd headwater",
            "a clone of this directory",
        ),
        "hf download": ("cp -r demo/weights/clip clip",) * 2,
    }
    total = 0.0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        terminals = [Terminal(folder, folder / f"{name}.log") for name in ("first", "second")]
        first, second = terminals
        exports: list[str] = []
        try:
            for block in blocks("sh"):
                for command in commands(block) if block.page == PAGE else ():
                    typed, shown = next(
                        (new for old, new in instead.items() if command.startswith(old)),
                        (command, command),
                    )
                    started = time.monotonic()
                    if command == SERVER:
                        second.run("cd headwater && source .venv/bin/activate")
                        for export in exports:
                            second.run(export)
                        second.leave_running(command, "http://127.0.0.1:8000/readyz")
                    else:
                        said = first.run(typed)
                    took = time.monotonic() - started
                    total += took
                    report.add(shown, "seconds", took, "", True)
                    if command.startswith("export"):
                        exports.append(command)
                    if command.startswith("git clone"):
                        write_pictures(folder / "headwater" / "pictures")
            print(said)
        finally:
            for terminal in terminals:
                terminal.close()
    report.add(
        "from the clone to the answer",
        "minutes",
        total / 60,
        f"≤ {MINUTES_WANTED}",
        total <= 60 * MINUTES_WANTED,
    )
    report.end()


if __name__ == "__main__":
    main()
