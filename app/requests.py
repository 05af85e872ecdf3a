"""Each request has an id, a line in the log, and a place in the metrics."""

from __future__ import annotations

import logging
import re
import time
from uuid import uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.metrics import HttpMetrics
from app.problems import unexpected

HEADER = "X-Request-ID"
WELL_FORMED = re.compile(r"[A-Za-z0-9._-]{1,64}")
NOT_LOGGED = frozenset({"/livez", "/readyz", "/metrics"})

# A client may make up others, without end: none gets a figure of its own.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

logger = logging.getLogger(__name__)


class RequestRecorder:
    """Names a request, and tells method, route, status and time of it: never what was sent."""

    def __init__(self, app: ASGIApp, metrics: HttpMetrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        sent = Headers(scope=scope).get(HEADER, "")
        request_id = sent if WELL_FORMED.fullmatch(sent) else uuid4().hex
        status, started = 0, time.perf_counter()
        method = scope["method"] if scope["method"] in METHODS else "other"

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers.update(scope.get("state", {}).get("headers", {}))
                headers[HEADER] = request_id
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self.app(scope, receive, named)
            except Exception:
                # Here the line still gets the request's id, and the answer too.
                logger.exception("unexpected error")
                if status:
                    raise  # half an answer must not look like a whole one
                await unexpected()(scope, receive, named)
            finally:
                seconds = time.perf_counter() - started
                route = getattr(scope.get("route"), "path", "unknown")
                self.metrics.observe(method, route, status or 500, seconds)
                if route not in NOT_LOGGED:
                    told = {
                        "method": method,
                        "route": route,
                        "status": status or 500,
                        "milliseconds": round(1000 * seconds, 1),
                        "tenant": scope.get("state", {}).get("tenant"),
                    }
                    logger.info("request", extra=told)


def answer_with(request: Request, header: str, value: str) -> None:
    """Put a header into the answer, whatever that will be."""
    request.scope.setdefault("state", {}).setdefault("headers", {})[header] = value


def current_request_id() -> str | None:
    """The id of the request that is being served, if one is."""
    found = structlog.contextvars.get_contextvars().get("request_id")
    return str(found) if found else None
