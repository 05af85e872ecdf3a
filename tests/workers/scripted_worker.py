"""A real Celery worker whose attribution task does what the job's request says.

Claim, lease, heartbeat, fencing and transport are the product's; only the work is scripted.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from app.database.tables import Job
from app.jobs.kinds import ATTRIBUTION, TASKS
from workers.celery_app import celery_app
from workers.execution import Outcome, run_next
from workers.leases import Lease
from workers.process import database, settings

celery_app.conf.include = []


@celery_app.task(name=TASKS["gpu"])
def scripted() -> None:
    run_next(database(), settings(), {ATTRIBUTION: follow_script})


def follow_script(job: Job, lease: Lease) -> Outcome:
    """Leave a trace of the execution; in the first attempts sleep or fail as told.

    A minute's sleep ends when a file says so.  The deaf report nothing meanwhile.
    """
    traces = Path(settings().home) / "traces"
    traces.mkdir(parents=True, exist_ok=True)
    with (traces / job.id).open("a") as trace:
        trace.write(f"{os.getpid()}\n")
    if job.attempt <= job.request.get("fail_attempts", 0):
        raise RuntimeError("the script says so")
    if job.attempt <= job.request.get("sleep_attempts", 0):
        lease.report("sleeping", 0.5)
        for _ in range(600):
            if (traces / f"{job.id}.wake").exists():
                break
            if not job.request.get("deaf"):
                lease.report("sleeping", 0.5)
            time.sleep(0.1)
    return Outcome({"attempt": job.attempt})
