"""OpenTelemetry traces from a request to the task that answers it; off unless it is configured.

The trace's context travels in the job's row: the message says nothing, and may be sent twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING

from app.config import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI
    from opentelemetry.trace import Span

    from app.database.tables import Job

# By the old and the new conventions.
ADDRESSES = ("http.url", "http.target", "url.full", "url.path", "url.query")

_started: list[str] = []


def start(settings: Settings, program: str) -> None:
    """Send this process's spans to the configured collector, by OTLP over HTTP."""
    if not settings.tracing_endpoint or _started:
        return
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    facts = {"service.name": f"headwater-{program}", "service.version": version("headwater")}
    provider = TracerProvider(resource=Resource.create(facts))
    exporter = OTLPSpanExporter(f"{settings.tracing_endpoint.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1000))
    trace.set_tracer_provider(provider)
    _started.append(program)


def follow_requests(application: FastAPI, settings: Settings) -> None:
    """A span for each request."""
    if settings.tracing_endpoint:
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

        start(settings, "api")
        FastAPIInstrumentor.instrument_app(
            application,
            excluded_urls="livez,readyz,metrics",
            exclude_spans=["receive", "send"],
            server_request_hook=_hide_address,
        )


def _hide_address(span: Span, scope: object) -> None:
    # Addresses hold keys of images and what was asked for; the route is told beside them.
    for name in ADDRESSES:
        span.set_attribute(name, "")


def stop() -> None:
    """Send what is left: pool processes end without being asked."""
    if _started:
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.trace import get_tracer_provider

        provider = get_tracer_provider()
        assert isinstance(provider, TracerProvider)
        provider.shutdown()


def current_traceparent() -> str | None:
    """Where the present span is to be continued."""
    if not _started:
        return None
    from opentelemetry.propagate import inject

    carrier: dict[str, str] = {}
    inject(carrier)
    return carrier.get("traceparent")


@contextmanager
def job_span(job: Job) -> Iterator[None]:
    """A span for the work on a job, in the trace of the request that asked for it."""
    if not _started:
        yield
        return
    from opentelemetry import trace
    from opentelemetry.propagate import extract

    parent = extract({"traceparent": job.traceparent}) if job.traceparent else None
    facts: dict[str, str | int] = {"headwater.job": job.id, "headwater.attempt": job.attempt}
    with trace.get_tracer("headwater").start_as_current_span(
        f"job {job.kind}",
        context=parent,
        attributes=facts,
        record_exception=False,  # its text may be private
        set_status_on_exception=False,
    ):
        yield


def begin_stage(stage: str) -> Callable[[], None]:
    """A span for a stage of the present job; what is returned ends it."""
    if not _started:
        return lambda: None
    from opentelemetry import trace

    return trace.get_tracer("headwater").start_span(stage).end
