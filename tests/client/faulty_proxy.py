"""A TCP proxy that loses answers: what networks and gateways do to a client."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

LOST = -1


class FaultyProxy:
    """Passes connections on, each by the next of ``plan`` (as they are where it has no more).

    A number: the answer's head and so many bytes of its body get through, then the connection is
    gone; with ``LOST`` nothing gets through.  Bytes: they are the answer, and the server hears
    nothing.
    """

    def __init__(self, server: str) -> None:
        address = urlsplit(server)
        self._upstream = (address.hostname or "", address.port or 80)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.plan: list[int | bytes] = []
        self._open: list[socket.socket] = []
        self.heard: list[bytes] = []
        """What came over each connection, as far as it was passed on or answered."""
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._listener.close()

    def next(self, *fates: int | bytes) -> None:
        """Plan for the connections to come, and end those that are kept for the next request."""
        self.plan = list(fates)
        while self._open:
            _shut(self._open.pop())

    def headers(self, name: str) -> list[str]:
        """The values of a header in all requests."""
        pattern = rf"^{name}: (.*?)\r$".encode()
        flags = re.MULTILINE | re.IGNORECASE
        return [
            value.decode() for heard in self.heard for value in re.findall(pattern, heard, flags)
        ]

    def _accept(self) -> None:
        while True:
            try:
                downstream, _ = self._listener.accept()
            except OSError:  # the test is over
                return
            self._open.append(downstream)
            self.heard.append(b"")
            place = len(self.heard) - 1
            fate = self.plan.pop(0) if self.plan else None
            threading.Thread(
                target=self._serve, args=(downstream, place, fate), daemon=True
            ).start()

    def _serve(self, downstream: socket.socket, place: int, fate: int | bytes | None) -> None:
        with downstream:
            if isinstance(fate, bytes):
                self.heard[place] += downstream.recv(65536)
                downstream.sendall(fate)
                return
            with socket.create_connection(self._upstream) as upstream:
                sending = (downstream, upstream, place)
                threading.Thread(target=self._send_on, args=sending, daemon=True).start()
                self._answer(upstream, downstream, fate)
                for end in (downstream, upstream):
                    _shut(end)

    def _send_on(self, downstream: socket.socket, upstream: socket.socket, place: int) -> None:
        with suppress(OSError):  # one of them is gone
            while some := downstream.recv(65536):
                self.heard[place] += some
                upstream.sendall(some)
        _shut(upstream)

    def _answer(self, upstream: socket.socket, downstream: socket.socket, body: int | None) -> None:
        came, sent = b"", 0
        with suppress(OSError):  # one of them is gone
            while some := upstream.recv(65536):
                came += some
                head = came.find(b"\r\n\r\n") + 4
                end = len(came) if body is None else head + body
                if body == LOST or head < 4:
                    return
                downstream.sendall(came[sent:end])
                sent = len(came)
                if sent >= end and body is not None:
                    return


def _shut(end: socket.socket) -> None:
    with suppress(OSError):  # it is already
        end.shutdown(socket.SHUT_RDWR)
