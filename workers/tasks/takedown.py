"""Taking images down: out of index files, old answers, thumbnails and exports."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import func, select

from app.database.tables import IndexVersion, Job, Sample, TakenSample
from app.indexes.directories import directory_of, discard
from app.jobs.kinds import ATTRIBUTION
from app.provenance.signatures import submit_signing
from app.storage import Exports, Thumbnails
from app.takedowns.redaction import redacted
from app.takedowns.service import replace_directory, retire, taken_keys, versions_over
from workers.execution import Outcome
from workers.leases import Lease
from workers.process import database, settings

ANSWERS_AT_ONCE = 50


def take_down(job: Job, lease: Lease) -> Outcome:
    """Do one takedown.  Done again after a crash, it goes on where images are left."""
    taken = TakenSample.takedown_id == job.request["takedown"]
    with database().read() as session:
        datasets = session.scalars(select(TakenSample.dataset_id).where(taken).distinct()).all()
        digests = session.scalars(
            select(TakenSample.digest).where(taken, TakenSample.digest.is_not(None)).distinct()
        ).all()
    thumbnails = Thumbnails(settings().home)
    for digest in digests:
        thumbnails.forget(str(digest))
    indexes = answers = 0
    for dataset in datasets:
        with database().read() as session:
            keys = taken_keys(session, dataset)
            versions = versions_over(session, dataset)
        answers += _redact_answers(lease, dataset, keys)
        for done, index in enumerate(versions):
            lease.report("indexes", done / len(versions))
            _redact_index(index.id, keys)
        indexes += len(versions)
    return Outcome({"indexes": indexes, "answers": answers})


def _redact_index(index_id: str, keys: Collection[str]) -> None:
    """Let no file of a version hold the images.  Other takedowns may be at the same one."""
    home = settings().home
    while (index := _version(index_id)) is not None and index.state == "ready":
        if not _moved_on(index, keys):
            discard(home, index_id, older_than=index.directory)
            return
    # What a build leaves that has failed holds images too, and is of no use.
    discard(home, index_id)


def _moved_on(index: IndexVersion, keys: Collection[str]) -> bool:
    """Put a version without the images in the place of one that holds them, or find it there."""
    from attribution.index.manifest import IndexFormatError
    from attribution.index.redact import NothingLeftError, redact

    home, directory = settings().home, directory_of(index.id, len(keys))
    try:
        manifest = redact(home / index.directory, home / directory, keys)
        if manifest is None:
            return False
    except NothingLeftError:
        with database().write() as session:
            retire(session, index.id)
        return True
    except (IndexFormatError, OSError):
        now = _version(index.id)
        if now is not None and now.directory == index.directory:
            raise
        return True  # it was replaced while it was read
    with database().write() as session:
        replace_directory(session, index.id, index.directory, directory, manifest.digest)
    return True


def _version(index_id: str) -> IndexVersion | None:
    with database().read() as session:
        return session.get(IndexVersion, index_id)


def _redact_answers(lease: Lease, dataset: str, keys: Collection[str]) -> int:
    """Rewrite the answers that name the images; return how many did."""
    answered = (
        Job.kind == ATTRIBUTION,
        Job.status == "succeeded",
        Job.deleted_at.is_(None),
        Job.index_id.in_(select(IndexVersion.id).where(IndexVersion.dataset_id == dataset)),
    )
    some = select(Job).where(*answered).order_by(Job.id).limit(ANSWERS_AT_ONCE).with_for_update()
    with database().read() as session:
        creators = set(
            session.scalars(select(Sample.creator).where(Sample.dataset_id == dataset).distinct())
        )
        total = session.scalar(select(func.count()).where(*answered)) or 1
    last, looked_at, changed, exports = "", 0, 0, Exports(settings().home)
    while True:
        lease.report("answers", min(1.0, looked_at / total))
        with database().write() as session:
            jobs = session.scalars(some.where(Job.id > last)).all()
            for job in jobs:
                last = job.id
                if job.result and (smaller := redacted(job.result, keys, creators)):
                    job.result = smaller
                    changed += 1
                    exports.forget(job.id)
                    submit_signing(session, settings(), job)
        looked_at += len(jobs)
        if not jobs:
            return changed
