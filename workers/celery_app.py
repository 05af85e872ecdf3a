"""The Celery application that ``celery -A workers.celery_app worker`` runs."""

from __future__ import annotations

import ctypes
import signal
from typing import Any

from celery.signals import worker_process_init

from app.config import Settings
from workers.broker import make_celery

PR_SET_PDEATHSIG = 1

celery_app = make_celery(Settings())


@worker_process_init.connect  # type: ignore[untyped-decorator]  # celery is untyped
def _die_with_worker(**_: Any) -> None:
    # A pool process whose parent was killed would otherwise work on, unseen.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
