"""Taking images down: out of index files, old answers, thumbnails and exports."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from sqlalchemy import select

from app.database.tables import IndexVersion, Job, TakenSample
from app.jobs.kinds import ATTRIBUTION
from app.storage import Exports, Thumbnails
from app.takedowns.redaction import redacted
from app.takedowns.service import indexes_to_redact, replace_directory, taken_keys
from workers.execution import Outcome
from workers.leases import Lease
from workers.process import database, settings
from workers.tasks.signing import submit_signing

ANSWERS_AT_ONCE = 50


def take_down(job: Job, lease: Lease) -> Outcome:
    """Do one takedown.  Done again after a crash, it goes on where images are left."""
    dataset = job.request["dataset"]
    with database().read() as session:
        keys = taken_keys(session, dataset)
        indexes = indexes_to_redact(session, dataset)
        digests = session.scalars(
            select(TakenSample.digest).where(
                TakenSample.takedown_id == job.request["takedown"], TakenSample.digest.is_not(None)
            )
        ).all()
    for done, index in enumerate(indexes):
        lease.report("indexes", done / len(indexes))
        _redact_index(index, keys)
    answers = _redact_answers(lease, dataset, keys, job.request["creator"])
    thumbnails = Thumbnails(settings().home)
    for digest in digests:
        thumbnails.forget(str(digest))
    return Outcome({"indexes": len(indexes), "answers": answers})


def _redact_index(index: IndexVersion, keys: frozenset[str]) -> None:
    from attribution.index.redact import redact

    home = settings().home
    # Beside the old one, under a name that no other takedown's has.
    directory = f"indexes/{index.id}.{len(keys)}"
    manifest = redact(home / index.directory, home / directory, keys)
    if manifest is None:
        return
    with database().write() as session:
        moved = replace_directory(session, index.id, index.directory, directory, manifest.digest)
    if moved:
        shutil.rmtree(home / index.directory, ignore_errors=True)


def _redact_answers(lease: Lease, dataset: str, keys: frozenset[str], creator: str | None) -> int:
    """Rewrite the answers that name the images; return how many did."""
    of_dataset = select(IndexVersion.id).where(IndexVersion.dataset_id == dataset)
    query = (
        select(Job)
        .where(Job.kind == ATTRIBUTION, Job.status == "succeeded", Job.index_id.in_(of_dataset))
        .order_by(Job.id)
        .limit(ANSWERS_AT_ONCE)
    )
    last, changed, exports = "", 0, Exports(settings().home)
    while True:
        lease.report("answers", 0.0)
        with database().write() as session:
            jobs: Sequence[Job] = session.scalars(
                query.where(Job.id > last).with_for_update()
            ).all()
            for job in jobs:
                last = job.id
                if job.result and (smaller := redacted(job.result, keys, creator)):
                    job.result = smaller
                    changed += 1
                    exports.forget(job.id)
                    submit_signing(session, settings(), job)
        if not jobs:
            return changed
