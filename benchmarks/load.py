"""How many uploads and polls the API takes, against a bare FastAPI in the same run.

Both sides run in one uvicorn process over the same pictures and connections, in turns.  Headwater
stores in PostgreSQL; no worker takes the jobs, so that they pile up.  The bare upload writes what
it was sent to disk; the decoding one also opens the picture with Pillow in the server's own process
and writes it anew, as an application would that wants to know what it has been sent.

    python benchmarks/load.py
"""

from __future__ import annotations

import argparse
import http.client
import io
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from installation import add_active_index, free_port, kill, own_servers, start_api, wait_for_http
from PIL import Image
from report import Report

from app.config import Settings
from app.database.engine import Database
from cli.serve import Child

CONNECTIONS = 4
ROUNDS = 5
UPLOADS, POLLS = 60, 600
BOUNDARY = "b0undary"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


@dataclass(frozen=True)
class Request:
    """What is sent, again and again on the same connection."""

    method: str
    path: str
    body: bytes = b""
    status: int = 202


@dataclass
class Side:
    """A server, and how its rounds went."""

    name: str
    port: int
    make: Callable[[bytes], Request]
    per_second: float = 0.0
    latencies: Sequence[float] = ()

    def run(self, contents: Sequence[bytes]) -> None:
        """Send everything over some connections; the best round counts."""
        started = time.perf_counter()
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            shares = [contents[i::CONNECTIONS] for i in range(CONNECTIONS)]
            latencies = [taken for share in pool.map(self._send, shares) for taken in share]
        per_second = len(contents) / (time.perf_counter() - started)
        if per_second > self.per_second:
            self.per_second, self.latencies = per_second, latencies

    def figures(self) -> dict[str, float]:
        """Of the best round."""
        p50, p99 = np.percentile(self.latencies, (50, 99)) * 1000
        return {
            f"{self.name}_per_second": round(self.per_second, 1),
            f"{self.name}_p50_ms": round(float(p50), 2),
            f"{self.name}_p99_ms": round(float(p99), 2),
        }

    def _send(self, contents: Sequence[bytes]) -> list[float]:
        taken = []
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        for content in contents:
            request = self.make(content)
            started = time.perf_counter()
            connection.request(request.method, request.path, request.body, FORM)
            answer = connection.getresponse()
            said = answer.read()
            taken.append(time.perf_counter() - started)
            if answer.status != request.status:
                raise RuntimeError(f"{self.name} answered {answer.status}: {said[:300]!r}")
        connection.close()
        return taken


def form(path: str) -> Callable[[bytes], Request]:
    """A form with a picture."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
    tail = f"\r\n--{BOUNDARY}--\r\n"
    return lambda png: Request("POST", path, head.encode() + png + tail.encode())


def pictures(size: int, count: int, seed: int) -> list[bytes]:
    """Smooth pictures of which no two are equal, as PNG."""
    random = np.random.default_rng(seed)
    drawn = []
    for _ in range(count):
        coarse = random.integers(0, 256, (size // 8, size // 8, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC).save(file, "PNG")
        drawn.append(file.getvalue())
    return drawn


def rss(child: Child) -> float:
    """Megabytes that a process holds at this moment."""
    status = Path(f"/proc/{child.process.pid}/status").read_text()
    (kilobytes,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
    return int(kilobytes) / 1024


def measure_memory(report: Report, api: Child, port: int) -> None:
    """The API's memory when 100 and when 1,000 jobs are queued."""
    held, queued = [], 0
    for wanted in (100, 1000):
        Side("headwater", port, form("/v1/attributions")).run(
            pictures(256, wanted - queued, queued)
        )
        held.append(rss(api))
        queued = wanted
    ratio = held[1] / held[0]
    report.add(
        "the API at 1,000 against 100 queued jobs",
        "times the memory",
        ratio,
        "≤ 1.1",
        ratio <= 1.1,
        mb=[round(megabytes, 1) for megabytes in held],
    )


def measure_uploads(report: Report, port: int, bare: int, size: int) -> None:
    """Uploads of one size."""
    ours = Side("headwater", port, form("/v1/attributions"))
    plain = Side("bare", bare, form("/uploads"))
    decoding = Side("decoding", bare, form("/decoded"))
    for turn in range(ROUNDS):
        content = pictures(size, UPLOADS, 10_000 + turn)
        for side in (ours, plain, decoding):
            side.run(content)
    case = f"uploads of {size} × {size}, {len(content[0]) // 1000} kB"
    for reference, target in ((plain, 2.0), (decoding, 2.0)):
        ratio = reference.per_second / ours.per_second
        wanted = "≤ 2" if reference is plain else "-"
        met = ratio <= target or reference is decoding
        figures = ours.figures() | reference.figures()
        name = f"times the cost of a {reference.name} one"
        report.add(case, name, ratio, wanted, met, **figures)


def measure_polls(report: Report, port: int, bare: int, job: str) -> None:
    """Looking at one job."""
    ours = Side("headwater", port, lambda _: Request("GET", f"/v1/attributions/{job}", status=200))
    plain = Side("bare", bare, lambda _: Request("GET", f"/jobs/{job}", status=200))
    for _ in range(ROUNDS):
        for side in (ours, plain):
            side.run([b""] * POLLS)
    ratio = plain.per_second / ours.per_second
    figures = ours.figures() | plain.figures()
    report.add("polls", "times the cost of a bare one", ratio, "≤ 3", ratio <= 3, **figures)


def ask(port: int) -> str:
    """The id of a new job."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/v1/attributions", b'{"prompt": "a cat"}', headers)
    connection.getresponse().read()
    connection.request("GET", "/v1/attributions?limit=1")
    (found,) = re.findall(r'"id":"(atr_\w+)"', connection.getresponse().read().decode())
    return str(found)


def main() -> None:
    """Measure memory, uploads, then polls."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    report = Report("load", parser.parse_args().out)
    with own_servers() as (postgresql, broker, home), ExitStack() as programs:
        settings = Settings(
            home=home, database_url=postgresql.url, broker_url=broker.url, max_queued=0
        )
        database = Database(settings.database_url)
        add_active_index(database)
        database.close()
        port, bare = free_port(), free_port()
        api = start_api(settings, port)
        programs.callback(kill, api)
        programs.callback(kill, start_api(settings, bare, "bare:create_app"))
        wait_for_http(f"http://127.0.0.1:{port}/livez")
        wait_for_http(f"http://127.0.0.1:{bare}/jobs/1")
        measure_memory(report, api, port)
        for size in (64, 512):
            measure_uploads(report, port, bare, size)
        measure_polls(report, port, bare, ask(port))
    report.end()


if __name__ == "__main__":
    main()
