"""A worker that is told to stop: its processes have a little time left to end their jobs.

What has not ended by then goes back to the queue (``workers/leases.py``).  Celery itself waits for
as long as a job takes, which may be until somebody kills it.
"""

from __future__ import annotations

import math
import time
from ctypes import c_double
from multiprocessing.sharedctypes import RawValue
from typing import Any

from celery.signals import worker_shutting_down

from workers.process import settings

# Only the worker's first process gets the signal; those that it has forked share this memory.  No
# lock: a process that is killed while it holds one would stop them all.
_deadline = RawValue(c_double, math.inf)


@worker_shutting_down.connect  # type: ignore[untyped-decorator]  # celery is untyped
def _begin(**_: Any) -> None:
    # Asking twice gives no more time.
    _deadline.value = min(_deadline.value, time.monotonic() + settings().drain_seconds)


def time_is_up() -> bool:
    """Whether this worker should no longer be at work."""
    return time.monotonic() > _deadline.value
