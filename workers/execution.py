"""Doing a job: take the next one, keep the lease, write the result or the problem."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from app.config import Settings
from app.database.engine import Database
from app.database.tables import Job
from app.jobs.claims import Claim, LeaseLostError, fail, retry_or_fail, succeed
from app.jobs.turns import claim_next
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


def run_next(database: Database, settings: Settings, works: Mapping[str, Work]) -> None:
    """Do the job whose turn it is among these kinds; never raises on account of the work.

    There may be none: somebody else has done it, or it was canceled.
    """
    with database.write() as session:
        held = claim_next(session, settings, works)
        job = session.get(Job, held.job_id) if held else None
    if held is None or job is None:
        return
    job_id, work = job.id, works[job.kind]
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
