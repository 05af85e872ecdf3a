"""The Celery application that ``celery -A workers.celery_app worker`` runs."""

from __future__ import annotations

import ctypes
import signal
from typing import Any

from celery.signals import (
    setup_logging,
    worker_process_init,
    worker_process_shutdown,
    worker_ready,
)

from app import heartbeats, logs, tracing
from app.config import Settings
from workers.broker import make_celery

PR_SET_PDEATHSIG = 1

settings = Settings()
logs.configure(settings.log_format, "worker")
celery_app = make_celery(settings)


@setup_logging.connect  # type: ignore[untyped-decorator]  # celery is untyped
def _leave_logs_alone(**_: Any) -> None:
    """Connected, it keeps Celery from setting up logs of its own."""


@worker_ready.connect  # type: ignore[untyped-decorator]  # celery is untyped
def _begin_to_beat(sender: Any, **_: Any) -> None:
    queues = {queue.name for queue in sender.task_consumer.queues}
    if settings.gpu_queue in queues:
        heartbeats.start(settings, "gpu worker")
    if settings.cpu_queue in queues:
        heartbeats.start(settings, "cpu worker")


@worker_process_init.connect  # type: ignore[untyped-decorator]  # celery is untyped
def _begin_process(**_: Any) -> None:
    # A pool process whose parent was killed would otherwise work on, unseen.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    tracing.start(settings, "worker")


@worker_process_shutdown.connect  # type: ignore[untyped-decorator]  # celery is untyped
def _end_process(**_: Any) -> None:
    tracing.stop()
