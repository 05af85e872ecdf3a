"""The worker of ``chaos.py``: the work is only pretended, all else is the product's.

Every execution leaves a line in ``traces/<job>`` when it begins and one when its work is done.
"""

from __future__ import annotations

import random
import time

from app.database.tables import Job
from app.jobs.kinds import ATTRIBUTION, TASKS
from workers.celery_app import celery_app
from workers.execution import Outcome, run_next
from workers.leases import Lease
from workers.process import database, settings

celery_app.conf.include = []


@celery_app.task(name=TASKS["gpu"])  # type: ignore[untyped-decorator]  # celery is untyped
def pretend() -> None:
    """Do the next job."""
    run_next(database(), settings(), {ATTRIBUTION: work})


def work(job: Job, lease: Lease) -> Outcome:
    """Take between 0.2 and 2 seconds, and report on the way."""
    folder = settings().home / "traces"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / job.id).open("a", buffering=1) as trace:
        trace.write(f"began {job.attempt}\n")
        seconds = random.Random(job.id).uniform(0.2, 2.0)
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            lease.report("pretending", 1 - left / seconds)
            time.sleep(min(0.1, left))
        trace.write(f"done {job.attempt}\n")
    return Outcome({"attempt": job.attempt})
