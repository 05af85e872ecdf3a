"""One trace holds the request and the work on its job, over a real collector's protocol."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

PROGRAM = """
import sys
from pathlib import Path
from fastapi.testclient import TestClient
from app.config import Settings
from app.database.engine import Database
from app.database.migrate import upgrade
from app.database.tables import Job
from app.jobs.kinds import ATTRIBUTION
from app.jobs.submission import submit
from app.main import create_app
from workers.execution import Outcome, run_next

settings = Settings()
database = Database(settings.database_url)
upgrade(database)
api = create_app(settings)

@api.post("/ask")
def ask() -> None:
    with database.write() as session:
        submit(session, settings, ATTRIBUTION, {"prompt": "SECRET"})

def work(job: Job, lease: object) -> Outcome:
    lease.report("features", 0.5)
    raise ValueError("SECRET")

with TestClient(api) as http:
    assert http.post("/ask?SECRET=1").status_code == 200
run_next(database, settings, {ATTRIBUTION: work})
if settings.tracing_endpoint:
    from opentelemetry import trace
    trace.get_tracer_provider().force_flush()
print("opentelemetry.sdk" in sys.modules)
"""


@pytest.fixture
def collector() -> Iterator[tuple[str, list[bytes]]]:
    received: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                import gzip

                content = gzip.decompress(content)
            received.append(content)
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            """Be quiet."""

    server = HTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", received
    server.shutdown()


def run(home: Path, endpoint: str) -> str:
    settings = {"HEADWATER_HOME": str(home), "HEADWATER_TRACING_ENDPOINT": endpoint}
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()


def test_request_and_job_are_one_trace(tmp_path: Path, collector: tuple[str, list[bytes]]) -> None:
    endpoint, received = collector
    run(tmp_path, endpoint)
    spans = {
        span.name: span
        for content in received
        for resource in ExportTraceServiceRequest.FromString(content).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    }
    request, job = spans["POST /ask"], spans["job attribution"]
    assert job.trace_id == request.trace_id
    assert job.parent_span_id == request.span_id
    assert spans["features"].trace_id == request.trace_id
    assert spans["features"].parent_span_id == job.span_id
    assert len(spans) == 3
    assert b"SECRET" not in b"".join(received)


def test_without_a_collector_nothing_is_imported(tmp_path: Path) -> None:
    assert run(tmp_path, "").splitlines()[-1] == "False"
