"""Building an index: a job for each shard, and one for the end."""

from __future__ import annotations

from app.database.tables import Job
from app.jobs.index_builds import finalise_after_last_shard, mark_ready
from workers.execution import Outcome
from workers.leases import Lease
from workers.process import settings


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
