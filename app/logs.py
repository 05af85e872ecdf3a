"""Logs: one JSON object a line, with the request or job it belongs to, and nothing private.

Exceptions are told by their type and place.  Their texts may quote what somebody sent, or where on
the disk it lies.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, WrappedLogger

LogFormat = Literal["json", "console"]

# Loggers that other programs set up for themselves, and that talk of every connection.
OTHERS = ("uvicorn", "uvicorn.error", "uvicorn.access", "celery", "kombu", "alembic")
# What may be said beside a text: other libraries' extras hold arguments and tracebacks.
TOLD = ("method", "route", "status", "milliseconds", "tenant")
# Others speak when something is wrong: what they do tells of files and addresses.
HEARD = ("app", "workers", "cli", "__main__", "celery", "uvicorn")

logger = logging.getLogger(__name__)


def configure(log_format: LogFormat, program: str) -> None:
    """Send every logger of this process through one format to stderr."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(TOLD),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _Named(program),
        without_exception_texts,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = lambda failed: _uncaught(
        failed.exc_type, failed.exc_value, failed.exc_traceback
    )
    for name in OTHERS:
        other = logging.getLogger(name)
        other.handlers.clear()
        other.propagate = True
    for name in HEARD:
        logging.getLogger(name).setLevel(logging.INFO)


def without_exception_texts(
    logger: WrappedLogger, method: str, event: EventDict
) -> Mapping[str, Any]:
    """Replace an exception by its type, its causes' types, and where it was raised."""
    info = event.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    error = info[1] if isinstance(info, tuple) else info
    record = event.get("_record")
    if record is not None:
        # The standard library would append the traceback, texts and all.
        record.exc_info = record.exc_text = None
    if isinstance(error, BaseException):
        event["error"] = _told(error)
    return event


def _uncaught(
    kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt) or error is None:
        return
    logger.critical("uncaught error", exc_info=(kind, error, trace))


def _told(error: BaseException) -> list[dict[str, Any]]:
    chain: list[dict[str, Any]] = []
    seen: BaseException | None = error
    while seen is not None and len(chain) < 5:
        frames = traceback.extract_tb(seen.__traceback__)[-8:]
        places = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in frames]
        chain.append({"type": type(seen).__name__, "at": places})
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return chain


class _Named:
    """Says which program of the installation speaks."""

    def __init__(self, program: str) -> None:
        self.program = program

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        return {**event, "program": self.program}
