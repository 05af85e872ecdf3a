"""A server on loopback that takes webhooks, and keeps what it was sent."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from standardwebhooks import Webhook


@dataclass
class Message:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: str

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def verified(self, secret: str) -> Any:
        """The event, if the secret has signed it just now."""
        return Webhook(secret).verify(self.body, self.headers)


@dataclass
class Receiver:
    """Answers with the next of ``statuses``, the last one for ever; ``hold`` makes it wait."""

    url: str
    statuses: list[int] = field(default_factory=lambda: [204])
    messages: list[Message] = field(default_factory=list)
    hold: threading.Event = field(default_factory=threading.Event)
    came: Callable[[], None] = lambda: None
    """Called while the sender waits for the answer."""


class Handler(BaseHTTPRequestHandler):
    """Writes the message down, then answers."""

    receiver: Receiver

    def do_POST(self) -> None:
        receiver = self.receiver
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        headers = {name.lower(): value for name, value in self.headers.items()}
        receiver.messages.append(Message(self.path, headers, body))
        receiver.came()
        receiver.hold.wait(60)
        statuses = receiver.statuses
        self.send_response(statuses.pop(0) if len(statuses) > 1 else statuses[0])
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Be silent."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver that is up."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver = Receiver(f"http://127.0.0.1:{server.server_port}/hook")
    receiver.hold.set()
    server.RequestHandlerClass = type("Bound", (Handler,), {"receiver": receiver})
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield receiver
    receiver.hold.set()
    server.shutdown()
    server.server_close()
