"""Requests to addresses that a client named: only to the open internet, and only for so long.

A name is resolved once, every address it has must be a public one, and the connection goes to the
address that was checked: a name that points elsewhere a moment later changes nothing.  Redirects
are not followed.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

import httpcore

TRANSLATED = ip_network("64:ff9b::/96")  # NAT64: the last 32 bits are an IPv4 address
UNICAST = ip_network("2000::/3")
"""The IPv6 addresses that are given out; site-local ones, for example, are outside of it."""
SPECIAL = tuple(map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "3fff::/20")))
"""Nobody's on the internet, which not every version of Python knows."""

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Sequence[str]]


class OutboundError(Exception):
    """The request was not made, or had no usable answer; the message may be shown to the client."""


@dataclass(frozen=True)
class Answer:
    """What came back: the status, the lower-case header names' values, and the body."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Limits:
    """Of one request from its first byte to the last of its answer."""

    seconds: float
    bytes: int


def resolve(host: str, port: int) -> list[str]:
    """Every address of a name, as the system knows them."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Outbound:
    """Makes requests.  With ``private`` also to http and to addresses of this network."""

    def __init__(self, *, private: bool = False, resolver: Resolve = resolve) -> None:
        self.private, self.resolver = private, resolver

    def check(self, url: str) -> None:
        """Refuse what cannot be asked for, without asking for it."""
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            raise OutboundError("it is no URL") from None
        allowed = ("https", "http") if self.private else ("https",)
        if parts.scheme not in allowed:
            raise OutboundError(f"only {' and '.join(allowed)} is spoken")
        if not host or not url.isascii() or not url.isprintable() or " " in url:
            raise OutboundError("it is no URL")
        if parts.username is not None or parts.password is not None:
            raise OutboundError("a URL with a user or password is not asked")
        try:
            addresses = [ip_address(host)]
        except ValueError:  # a name: whose it is, is asked when it is connected to
            return
        self._refuse_private(addresses)

    def send(
        self,
        method: str,
        url: str,
        limits: Limits,
        *,
        headers: Iterable[tuple[str, str]] = (),
        content: bytes = b"",
        read_body: bool = True,
    ) -> Answer:
        """One request on a connection of its own; any status is an answer."""
        self.check(url)
        deadline = time.monotonic() + limits.seconds
        backend = _CheckedBackend(self, deadline)
        sent = [("User-Agent", "headwater"), ("Accept-Encoding", "identity"), *headers]
        try:
            with (
                httpcore.ConnectionPool(ssl_context=_tls(), network_backend=backend) as pool,
                pool.stream(method, url, headers=sent, content=content) as response,
            ):
                body = bytearray()
                for chunk in response.iter_stream() if read_body else ():
                    body += chunk
                    if len(body) > limits.bytes:
                        raise OutboundError(f"the answer is longer than {limits.bytes} bytes")
                named = {
                    name.decode("latin-1").lower(): value.decode("latin-1")
                    for name, value in response.headers
                }
                return Answer(response.status, named, bytes(body))
        except (httpcore.TimeoutException, TimeoutError):
            raise OutboundError(f"no answer within {limits.seconds:g} seconds") from None
        except (
            httpcore.NetworkError,
            httpcore.ProtocolError,
            httpcore.UnsupportedProtocol,
            ssl.SSLError,
            OSError,
        ) as error:
            reason = type(error).__name__
            raise OutboundError(f"the server cannot be spoken to ({reason})") from None

    def addresses(self, host: str, port: int) -> list[str]:
        """A name's addresses; one that is not public refuses them all."""
        try:
            found = list(self.resolver(host, port))
        except (OSError, UnicodeError):
            raise OutboundError("its name is not known") from None
        if not found:
            raise OutboundError("its name is not known")
        self._refuse_private(ip_address(address) for address in found)
        return found

    def _refuse_private(self, addresses: Iterable[Address]) -> None:
        if not self.private and not all(map(is_public, addresses)):
            raise OutboundError("its address is not a public one")


@cache
def _tls() -> ssl.SSLContext:
    """Reading every authority's certificate takes longer than many a request."""
    return ssl.create_default_context()


def is_public(address: Address) -> bool:
    """Whether an address is anybody's on the internet, and nobody's of this network.

    Addresses that carry another one inside are what that one is.
    """
    inner = _carried(address)
    if inner is not None:
        return is_public(inner)
    if isinstance(address, IPv6Address) and address not in UNICAST:
        return False
    return address.is_global and not (
        address.is_multicast or address.is_reserved or any(address in block for block in SPECIAL)
    )


def _carried(address: Address) -> IPv4Address | None:
    if isinstance(address, IPv4Address):
        return None
    if address in TRANSLATED:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)


class _CheckedBackend(httpcore.NetworkBackend):
    """Connects to addresses that were checked, and reads no longer than until the deadline."""

    def __init__(self, outbound: Outbound, deadline: float) -> None:
        self.outbound, self.deadline = outbound, deadline
        self.system = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address that answers."""
        error: Exception = OutboundError("its name is not known")
        for address in self.outbound.addresses(host, port):
            try:
                stream = self.system.connect_tcp(address, port, left(self.deadline), local_address)
            except httpcore.NetworkError as refused:
                error = refused
            else:
                return _TimedStream(stream, self.deadline)
        raise error


class _TimedStream(httpcore.NetworkStream):
    """A stream on which a server that sends a byte now and then does not win more time."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self.stream, self.deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read what is there before the deadline."""
        return self.stream.read(max_bytes, left(self.deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write before the deadline."""
        self.stream.write(buffer, left(self.deadline))

    def close(self) -> None:
        """Close the connection."""
        self.stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        """Speak TLS to the name that was asked for, wherever it lies."""
        secured = self.stream.start_tls(ssl_context, server_hostname, left(self.deadline))
        return _TimedStream(secured, self.deadline)

    def get_extra_info(self, info: str) -> Any:
        """What the connection below says of itself."""
        return self.stream.get_extra_info(info)


def left(deadline: float) -> float:
    """The seconds until a moment of the monotonic clock; none left is an error."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise httpcore.ReadTimeout
    return seconds
