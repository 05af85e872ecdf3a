"""Handing untrusted pictures to ``decode_image``, a program that opens each in its own process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass

from app import decode_image
from app.decode_image import READY, REPLY, SECONDS

REPLY_SECONDS = SECONDS + 5  # the decoding process ends itself before that
FURTHER_BYTES = 1_000_000
STARTS = 3

# A large picture takes some 350 MB while it is decoded; the server has forty threads for requests.
_decoding = threading.BoundedSemaphore(os.cpu_count() or 1)


@dataclass(frozen=True)
class Decoded:
    """What came of a picture: a code of ``decode_image``, and the PNG or the reason."""

    code: int
    payload: bytes


class Decoder:
    """Speaks to the program; starts it when first needed, and again should it have died."""

    def __init__(self) -> None:
        self._starting = threading.Lock()
        self._program: subprocess.Popen[bytes] | None = None
        self._pictures: socket.socket

    def decode(self, content: bytes, max_pixels: int) -> Decoded | None:
        """The answer; None where the process that opened the picture was ended by a limit."""
        with _decoding:
            for _ in range(STARTS):
                pictures = self._opened()
                connection = _hand_over(pictures, max_pixels)
                if connection is not None:
                    with connection:
                        return _answer(connection, content, max_pixels)
                self._discard(pictures)
        raise RuntimeError("the decoding program does not stay alive")

    def close(self) -> None:
        """End the program; pictures that are being decoded are not disturbed."""
        with self._starting:
            self._stop()

    def _opened(self) -> socket.socket:
        """The socket that the program listens to."""
        with self._starting:
            if self._program is None:
                self._pictures, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                with theirs:
                    # By path, isolated, elsewhere: it sees Pillow and nothing of the application.
                    self._program = subprocess.Popen(
                        [sys.executable, "-I", decode_image.__file__],
                        stdin=theirs.fileno(),
                        stdout=subprocess.DEVNULL,
                        stderr=subprocess.DEVNULL,
                        cwd="/",
                        env={},
                        start_new_session=True,  # Ctrl-C is for the server, which ends it in turn
                    )
            return self._pictures

    def _discard(self, pictures: socket.socket) -> None:
        """The program behind this socket does not answer: let the next picture start another."""
        with self._starting:
            if self._pictures is pictures:
                self._stop()

    def _stop(self) -> None:
        if self._program is not None:
            self._pictures.close()
            self._program.kill()
            self._program.wait()
            self._program = None


def _hand_over(pictures: socket.socket, max_pixels: int) -> socket.socket | None:
    """A connection to a process that will open one picture; None if there is none to be had."""
    connection, theirs = socket.socketpair()
    try:
        with theirs:
            socket.send_fds(pictures, [b"%d" % max_pixels], [theirs.fileno()])
        connection.settimeout(REPLY_SECONDS)
        if connection.recv(len(READY)):
            return connection
    except OSError:
        pass
    connection.close()
    return None


def _answer(connection: socket.socket, content: bytes, max_pixels: int) -> Decoded | None:
    deadline = time.monotonic() + REPLY_SECONDS
    with suppress(OSError):  # it died: what was read until then is no answer
        connection.sendall(content)
        connection.shutdown(socket.SHUT_WR)
        code, length = REPLY.unpack(_read(connection, REPLY.size, deadline))
        # Not more than any answer can have, whatever the process has become.
        if length <= 4 * max_pixels + FURTHER_BYTES:
            return Decoded(code, bytes(_read(connection, length, deadline)))
    return None


def _read(connection: socket.socket, length: int, deadline: float) -> bytearray:
    """So many bytes before the deadline, or an ``OSError``."""
    received = bytearray(length)
    view = memoryview(received)
    while view:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        count = connection.recv_into(view)
        if not count:
            raise ConnectionError("the answer ends early")
        view = view[count:]
    return received
