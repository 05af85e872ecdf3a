"""What a client names is asked only on the open internet, and only for so long."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import ip_address

import pytest

from app.outbound import Limits, Outbound, OutboundError, is_public

QUICK = Limits(seconds=1.0, bytes=1000)
Reply = Callable[[socket.socket], None]


class Server(socketserver.ThreadingTCPServer):
    """A server on loopback that does one thing to whoever connects, and counts them."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, reply: Reply) -> None:
        self.reply, self.connections = reply, 0
        self.heard = b""
        super().__init__(("127.0.0.1", 0), socketserver.BaseRequestHandler)

    def finish_request(self, request: object, client_address: object) -> None:
        assert isinstance(request, socket.socket)
        self.connections += 1
        self.heard = request.recv(65536)
        with suppress(OSError):  # the client hung up, as it should
            self.reply(request)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook"


@pytest.fixture
def serving() -> Iterator[Callable[[Reply], Server]]:
    servers: list[Server] = []

    def start(reply: Reply) -> Server:
        server = Server(reply)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def answering(body: bytes = b"hello", status: str = "200 OK", *headers: str) -> Reply:
    lines = "".join(f"{header}\r\n" for header in headers)
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode()
    return lambda connection: connection.sendall(head + body)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
        *("0.0.0.0", "255.255.255.255", "240.0.0.1", "224.0.0.1", "192.0.2.1", "198.18.0.1"),
        *("::1", "::", "fe80::1", "fc00::1", "ff0e::1", "2001:db8::1", "::ffff:10.0.0.1"),
        *("::ffff:127.0.0.1", "64:ff9b::a00:1", "64:ff9b::7f00:1", "2002:a00:1::", "2002:7f00:1::"),
        "2001:0:4136:e378:8000:63bf:f5ff:fffe",  # Teredo, of 10.0.0.1
        # Those that Python's own list does not have, or not in every version.
        *("192.0.0.8", "192.0.0.192", "192.88.99.1", "::ffff:192.0.0.192", "64:ff9b::c000:c0"),
        *("fec0::1", "3fff::1", "64:ff9b:1::a00:1", "::10.0.0.1", "5f00::1", "4000::1"),
    ],
)
def test_addresses_of_this_network_are_not_asked(address: str) -> None:
    assert not is_public(ip_address(address))
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(OutboundError, match="not a public one"):
        Outbound().send("GET", f"https://{host}/", QUICK)
    with pytest.raises(OutboundError, match="not a public one"):
        Outbound().check(f"https://{host}/")
    Outbound(private=True).check(f"https://{host}/")


@pytest.mark.parametrize("address", ["8.8.8.8", "2001:4860:4860::8888", "::ffff:8.8.8.8"])
def test_public_addresses_may_be_asked(address: str) -> None:
    assert is_public(ip_address(address))


def test_one_private_address_among_others_refuses_the_name(
    serving: Callable[[Reply], Server],
) -> None:
    server = serving(answering())
    outbound = Outbound(resolver=lambda host, port: ["8.8.8.8", "127.0.0.1"])
    with pytest.raises(OutboundError, match="not a public one"):
        outbound.send("GET", f"https://example.org:{server.server_address[1]}/", QUICK)
    assert server.connections == 0


def test_a_name_is_resolved_once(serving: Callable[[Reply], Server]) -> None:
    """Another address a moment later is never asked for: the checked one is connected to."""
    server = serving(answering())
    asked = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

    url = server.url.replace("127.0.0.1", "example.org")
    assert Outbound(private=True, resolver=rebinding).send("GET", url, QUICK).body == b"hello"
    assert asked == ["example.org"]
    assert b"Host: example.org" in server.heard


@pytest.mark.parametrize(
    "url",
    [
        *("http://example.org/", "ftp://example.org/", "file:///etc/passwd", "example.org", ""),
        *(
            "https://",
            "https://user:secret@example.org/",
            "https://exa mple.org/",
            "https://é.org/",
        ),
        *("https://example.org:99999/", "https://[::1/", "https://example.org/\n", "gopher://x/"),
    ],
)
def test_other_urls_are_refused_before_anything_is_asked(url: str) -> None:
    def resolver(host: str, port: int) -> list[str]:
        raise AssertionError("nothing is resolved")

    with pytest.raises(OutboundError):
        Outbound(resolver=resolver).send("GET", url, QUICK)


def test_an_answer_and_what_was_sent(serving: Callable[[Reply], Server]) -> None:
    server = serving(answering(b"ok", "202 Accepted", "X-Note: yes"))
    answer = Outbound(private=True).send(
        "POST", server.url, QUICK, headers=[("webhook-id", "m1")], content=b"{}"
    )
    assert (answer.status, answer.body, answer.headers["x-note"]) == (202, b"ok", "yes")
    assert server.heard.startswith(b"POST /hook HTTP/1.1")
    assert b"webhook-id: m1" in server.heard


def test_redirects_are_answers(serving: Callable[[Reply], Server]) -> None:
    inner = serving(answering(b"secret"))
    outer = serving(answering(b"", "302 Found", f"Location: {inner.url}"))
    assert Outbound(private=True).send("GET", outer.url, QUICK).status == 302
    assert inner.connections == 0


def test_long_answers_are_cut_off(serving: Callable[[Reply], Server]) -> None:
    def endless(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b"x" * 4096)

    with pytest.raises(OutboundError, match="longer than 1000 bytes"):
        Outbound(private=True).send("GET", serving(endless).url, QUICK)


def test_who_wants_no_body_waits_for_none(serving: Callable[[Reply], Server]) -> None:
    def hold(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\nx")
        connection.recv(1)  # until the client hangs up

    answer = Outbound(private=True).send("POST", serving(hold).url, QUICK, read_body=False)
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("part", ["header", "body"])
def test_a_byte_now_and_then_wins_no_time(serving: Callable[[Reply], Server], part: str) -> None:
    def drip(connection: socket.socket) -> None:
        if part == "body":
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        while True:
            connection.sendall(b"x")
            time.sleep(0.1)

    started = time.monotonic()
    with pytest.raises(OutboundError, match="no answer within 1 seconds"):
        Outbound(private=True).send("GET", serving(drip).url, QUICK)
    assert time.monotonic() - started < 3


def test_what_is_no_server_is_an_error(serving: Callable[[Reply], Server]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(OutboundError, match="cannot be spoken to"):
        Outbound(private=True).send("GET", f"http://127.0.0.1:{port}/", QUICK)
    for reply in (lambda connection: connection.sendall(b"SSH-2.0\r\n"), lambda connection: None):
        with pytest.raises(OutboundError, match="cannot be spoken to"):
            Outbound(private=True).send("GET", serving(reply).url, QUICK)
    with pytest.raises(OutboundError, match="name is not known"):
        Outbound().send("GET", "https://nowhere.invalid/", QUICK)
