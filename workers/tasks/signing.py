"""Signing the picture of an answer: only this worker needs the operator's private key."""

from __future__ import annotations

from sqlalchemy.orm import Session

from app.database.tables import Job
from app.provenance.record import read_record
from app.provenance.signing import SigningError, sign
from app.storage import Exports, ImageStore, write_whole
from attribution.errors import InputError
from workers.execution import Outcome
from workers.leases import Lease
from workers.process import database, settings


def sign_picture(job: Job, lease: Lease) -> Outcome:
    """Write the exports of one attribution; none if it was deleted meanwhile."""
    lease.report("signing", 0.0)
    with database().read() as session:
        attribution = session.get_one(Job, job.request["attribution"])
        if attribution.deleted_at is not None:
            return Outcome({})
        record = read_record(session, attribution)
    png = ImageStore(settings().home).path(record.picture).read_bytes()
    try:
        signed = sign(settings(), record, png)
    except SigningError as error:
        raise InputError(f"the picture cannot be signed: {error}") from None

    def publish(session: Session) -> None:
        # Only who still holds the job comes here, and holding the answer's row he waits for a
        # deletion or takedown, or it for him: what they delete does not come back.  A takedown
        # has the picture signed again.
        now = session.get_one(Job, attribution.id, with_for_update={"read": True})
        if now.result == attribution.result:
            exports = Exports(settings().home)
            write_whole(exports.sidecar(attribution.id), signed.sidecar)
            write_whole(exports.picture(attribution.id), signed.picture)

    return Outcome({}, publish)
