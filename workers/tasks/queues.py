"""The Celery tasks: each does the next job of its queue, whichever message woke it."""

from __future__ import annotations

from celery import shared_task

from app.jobs.kinds import (
    ATTRIBUTION,
    C2PA_SIGN,
    INDEX_FINALISE,
    INDEX_SHARD,
    TAKEDOWN,
    TASKS,
    WEBHOOK_DELIVERY,
)
from workers.execution import Work, run_next
from workers.process import database, settings
from workers.tasks.attribution import answer
from workers.tasks.delivery import deliver
from workers.tasks.indexing import extract, finalise
from workers.tasks.signing import sign_picture
from workers.tasks.takedown import take_down

GPU_WORK: dict[str, Work] = {
    ATTRIBUTION: answer,
    INDEX_SHARD: extract,
    INDEX_FINALISE: finalise,
}
CPU_WORK: dict[str, Work] = {
    TAKEDOWN: take_down,
    C2PA_SIGN: sign_picture,
    WEBHOOK_DELIVERY: deliver,
}


@shared_task(name=TASKS["gpu"])  # type: ignore[untyped-decorator]  # celery is untyped
def do_gpu_job() -> None:
    """Do one job that needs a model."""
    run_next(database(), settings(), GPU_WORK)


@shared_task(name=TASKS["cpu"])  # type: ignore[untyped-decorator]  # celery is untyped
def do_cpu_job() -> None:
    """Do one job that needs none."""
    run_next(database(), settings(), CPU_WORK)
