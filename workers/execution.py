"""Doing a job: claim it, keep the lease, write the result or the problem."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from app.config import Settings
from app.database.engine import Database
from app.database.tables import Job
from app.jobs.claims import Claim, LeaseLostError, claim, fail, retry_or_fail, succeed
from app.problems import problem_body
from attribution.errors import InputError
from workers.leases import Lease

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """A result, and what else becomes true in the transaction that writes it."""

    result: dict[str, Any]
    also: Callable[[Session], None] = lambda session: None


Work = Callable[[Job, Lease], Outcome]


def run_job(database: Database, settings: Settings, job_id: str, work: Work) -> None:
    """Do ``work``, unless the job is no longer queued; never raises on account of the work."""
    with database.write() as session:
        held = claim(session, settings, job_id)
        job = session.get(Job, job_id) if held else None
    if held is None or job is None:
        logger.info("%s is not queued: nothing to do", job_id)
        return
    try:
        with Lease(database, settings, held) as lease:
            outcome = work(job, lease)
        with database.write() as session:
            succeed(session, held, outcome.result)
            outcome.also(session)
        logger.info("%s succeeded in attempt %d", job_id, held.attempt)
    except LeaseLostError:
        logger.info("%s was canceled or taken over in attempt %d", job_id, held.attempt)
    except Exception as error:
        logger.exception("%s failed in attempt %d", job_id, held.attempt)
        _write_failure(database, settings, held, error)


def _write_failure(database: Database, settings: Settings, held: Claim, error: Exception) -> None:
    try:
        with database.write() as session:
            if isinstance(error, InputError):
                title = "The model, dataset or question cannot be used"
                fail(session, held, problem_body(422, "unusable-input", title, str(error)))
            else:
                detail = f"Attempt {held.attempt} failed too. The worker's log says more."
                problem = problem_body(500, "job-failed", "The job failed", detail)
                retry_or_fail(session, settings, held, problem)
    except LeaseLostError:
        logger.info("%s was canceled or taken over in attempt %d", held.job_id, held.attempt)
