"""Doing a job: take the next one, keep the lease, write the result or the problem."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.config import Settings
from app.database.engine import Database
from app.database.tables import Job
from app.jobs.claims import Claim, LeaseLostError, fail, retry_or_fail, succeed
from app.jobs.measures import add_stages, count
from app.jobs.turns import claim_next
from app.problems import problem_body
from app.tracing import job_span
from attribution.errors import InputError
from workers.leases import Lease

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """A result, and what else becomes true in the transaction that writes it."""

    result: dict[str, Any]
    also: Callable[[Session], None] = lambda session: None


Work = Callable[[Job, Lease], Outcome]


class TryAgainError(Exception):
    """The work could not be done now, by nobody's fault here; another attempt may do it."""


def run_next(database: Database, settings: Settings, works: Mapping[str, Work]) -> None:
    """Do the job whose turn it is among these kinds; never raises on account of the work.

    There may be none: somebody else has done it, or it was canceled.
    """
    with database.write() as session:
        held = claim_next(session, settings, works)
        job = session.get(Job, held.job_id) if held else None
    if held is None or job is None:
        return
    about = {"job": job.id, "kind": job.kind, "attempt": held.attempt, "request_id": job.request_id}
    with structlog.contextvars.bound_contextvars(**about), job_span(job):
        _do(database, settings, held, job, works[job.kind])


def _do(database: Database, settings: Settings, held: Claim, job: Job, work: Work) -> None:
    try:
        with Lease(database, settings, held) as lease:
            outcome = work(job, lease)
        with database.write() as session:
            succeed(session, held, outcome.result)
            outcome.also(session)
        _measure(database, job, "succeeded", lease.stages)
        logger.info("the job succeeded")
    except LeaseLostError:
        logger.info("the job was canceled or taken over")
    except TryAgainError as error:
        logger.info("the attempt was put off: %s", error)
        _write_failure(database, settings, held, error)
    except Exception as error:
        logger.exception("the attempt failed")
        _measure(database, job, "attempt failed", {})
        _write_failure(database, settings, held, error)


def _measure(database: Database, job: Job, outcome: str, stages: Mapping[str, float]) -> None:
    """Add up outcomes and times, in a transaction of their own: these rows are busy."""
    try:
        with database.write() as session:
            count(session, f"{job.kind} {outcome}")
            add_stages(session, job.kind, stages)
    except SQLAlchemyError:
        logger.warning("what the job took is not counted")


def _write_failure(database: Database, settings: Settings, held: Claim, error: Exception) -> None:
    try:
        with database.write() as session:
            if isinstance(error, InputError):
                title = "The model, dataset or question cannot be used"
                fail(session, held, problem_body(422, "unusable-input", title, str(error)))
            elif isinstance(error, TryAgainError):
                problem = problem_body(502, "put-off", "It could not be done", str(error))
                retry_or_fail(session, settings, held, problem)
            else:
                detail = f"Attempt {held.attempt} failed too. The worker's log says more."
                problem = problem_body(500, "job-failed", "The job failed", detail)
                retry_or_fail(session, settings, held, problem)
    except LeaseLostError:
        logger.info("the job was canceled or taken over")
