"""Signing the picture of an answer: only this worker needs the operator's private key."""

from __future__ import annotations

from sqlalchemy.orm import Session

from app.config import Settings
from app.database.tables import Job
from app.jobs.kinds import C2PA_SIGN
from app.jobs.submission import submit
from app.provenance.record import read_record
from app.provenance.signing import SigningError, sign
from app.storage import Exports, ImageStore, write_whole
from attribution.errors import InputError
from workers.execution import Outcome
from workers.leases import Lease
from workers.process import database, settings


def submit_signing(session: Session, settings: Settings, attribution: Job) -> None:
    """Let a picture be signed, if the installation signs."""
    if settings.c2pa_certificate is not None:
        submit(
            session,
            settings,
            C2PA_SIGN,
            {"attribution": attribution.id},
            tenant_id=attribution.tenant_id,
        )


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
    exports = Exports(settings().home)
    write_whole(exports.sidecar(attribution.id), signed.sidecar)
    write_whole(exports.picture(attribution.id), signed.picture)

    def still_wanted(session: Session) -> None:
        # Deleted, or rewritten by a takedown, while it was being signed.
        now = session.get_one(Job, attribution.id, with_for_update={"read": True})
        if now.result != attribution.result:
            exports.forget(attribution.id)
            if now.deleted_at is None:
                submit_signing(session, settings(), now)

    return Outcome({}, still_wanted)
