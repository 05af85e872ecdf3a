"""Sending a webhook's message."""

from __future__ import annotations

from app.database.tables import Job
from app.jobs.claims import extend_lease
from app.outbound import Limits, Outbound, OutboundError
from app.webhooks import attempts, messages
from app.webhooks.attempts import Attempt
from app.webhooks.secrets import SecretUnreadableError, signing
from workers.execution import Outcome, TryAgainError
from workers.leases import Lease
from workers.process import database, settings


def deliver(job: Job, lease: Lease) -> Outcome:
    """Send a delivery's message once.  What is not taken is tried again, by a later attempt."""
    with database().write() as session:
        attempt = attempts.begin(session, job.id)
    if attempt is None:
        return Outcome({})
    try:
        status = _send(attempt)
        error = None if status in range(200, 300) else f"the server answered {status}"
    except (OutboundError, SecretUnreadableError) as reason:
        status, error = None, str(reason)
    with database().write() as session:
        extend_lease(session, settings(), lease.claim)  # who has lost the job says nothing
        attempts.note(session, job.id, status, error)
    if error is None:
        return Outcome({}, lambda session: attempts.end(session, job.id, "succeeded"))
    if status == attempts.GONE:
        return Outcome({}, lambda session: attempts.end(session, job.id, "failed"))
    raise TryAgainError(error)


def _send(attempt: Attempt) -> int:
    """The status that the receiver answers; nobody waits for what else it says."""
    secrets = signing(attempt.signed, settings().secret_keys)
    body = messages.body(attempt.delivery, settings().public_url)
    answer = Outbound(private=settings().outbound_private).send(
        "POST",
        attempt.url,
        Limits(settings().webhook_seconds, bytes=0),
        headers=messages.signed_headers(attempt.delivery.id, body, secrets),
        content=body.encode(),
        read_body=False,
    )
    return answer.status
