"""The tasks that build an index: one for each shard, and one for the end."""

from __future__ import annotations

from celery import shared_task

from app.database.tables import Job
from app.jobs.index_builds import finalise_after_last_shard, mark_ready
from app.jobs.kinds import INDEX_FINALISE, INDEX_SHARD, TASKS
from workers.execution import Outcome, run_job
from workers.leases import Lease
from workers.process import database, settings


@shared_task(name=TASKS[INDEX_SHARD])  # type: ignore[untyped-decorator]  # celery is untyped
def extract_shard(job_id: str) -> None:
    """Do one ``index.shard`` job."""
    run_job(database(), settings(), job_id, extract)


@shared_task(name=TASKS[INDEX_FINALISE])  # type: ignore[untyped-decorator]  # celery is untyped
def finalise_index(job_id: str) -> None:
    """Do one ``index.finalise`` job."""
    run_job(database(), settings(), job_id, finalise)


def extract(job: Job, lease: Lease) -> Outcome:
    """Compute and write the features of one shard."""
    from workers.model_cache import open_builder

    lease.report("loading", 0.0)
    index_id = job.index_id
    assert index_id is not None
    open_builder(index_id).extract(
        job.request["shard"], lambda fraction: lease.report("features", fraction)
    )
    return Outcome({}, lambda session: finalise_after_last_shard(session, settings(), index_id))


def finalise(job: Job, lease: Lease) -> Outcome:
    """Factorise the kernel, write what is searched, and put the version to work."""
    from workers.model_cache import clip_of, open_builder

    lease.report("loading", 0.0)
    index_id = job.index_id
    assert index_id is not None
    manifest = open_builder(index_id).finalise(
        clip_of(index_id), lambda fraction: lease.report("finalise", fraction)
    )
    return Outcome(
        {"manifest_digest": manifest.digest},
        lambda session: mark_ready(session, index_id, manifest.digest),
    )
