"""Having training images decoded by ``check_images``, a program that may die of them."""

from __future__ import annotations

import subprocess
import sys
from types import TracebackType

from app.datasets import check_images
from app.datasets.check_images import FAULT, LENGTH, LONGEST_FAULT, TOO_MUCH
from attribution.image_data.sample import IMAGE_FORMATS


class ImageChecker:
    """One program, started when first needed, and again where a file has ended it."""

    def __init__(self) -> None:
        self._program: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ImageChecker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    def fault(self, content: bytes) -> str:
        """Why a file cannot be used as an image; empty if it can."""
        program = self._program = self._program or self._start()
        assert program.stdin
        assert program.stdout
        try:
            program.stdin.write(LENGTH.pack(len(content)))
            program.stdin.write(content)
            program.stdin.flush()
            (length,) = FAULT.unpack(program.stdout.read(FAULT.size).ljust(FAULT.size, b"\xff"))
            if length <= LONGEST_FAULT:
                return program.stdout.read(length).decode(errors="replace")
        except BrokenPipeError:
            pass
        self._stop()
        return TOO_MUCH

    def _start(self) -> subprocess.Popen[bytes]:
        # By path, isolated, elsewhere: it sees Pillow and nothing of the application.
        return subprocess.Popen(
            [sys.executable, "-I", check_images.__file__, *IMAGE_FORMATS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={},
            start_new_session=True,  # Ctrl-C is for the server, which ends it in turn
        )

    def _stop(self) -> None:
        if self._program is not None:
            self._program.kill()
            self._program.communicate()
            self._program = None
