"""A real Celery worker whose attribution task does what the job's request says.

Claim, lease, heartbeat, fencing and transport are the product's; only the work is scripted.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from app.database.tables import Job
from app.jobs.kinds import ATTRIBUTION, TASKS
from workers.broker import make_celery
from workers.execution import Outcome, run_next
from workers.leases import Lease
from workers.process import database, settings

celery_app = make_celery(settings())
celery_app.conf.include = []


@celery_app.task(name=TASKS["gpu"])
def scripted() -> None:
    run_next(database(), settings(), {ATTRIBUTION: follow_script})


def follow_script(job: Job, lease: Lease) -> Outcome:
    """Leave a trace of the execution; in the first attempts sleep or fail as told."""
    traces = Path(settings().home) / "traces"
    traces.mkdir(parents=True, exist_ok=True)
    with (traces / job.id).open("a") as trace:
        trace.write(f"{os.getpid()}\n")
    if job.attempt <= job.request.get("fail_attempts", 0):
        raise RuntimeError("the script says so")
    if job.attempt <= job.request.get("sleep_attempts", 0):
        for _ in range(600):
            lease.report("sleeping", 0.5)
            time.sleep(0.1)
    return Outcome({"attempt": job.attempt})
