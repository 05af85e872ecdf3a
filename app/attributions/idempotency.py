"""One request, one job: a client that does not know whether it was heard may ask again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Header
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.database.engine import TenantDatabase
from app.database.tables import Job
from app.problems import ProblemError

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="The same key and body again is the same attribution; another body is a 422",
    ),
]


@dataclass(frozen=True)
class Once:
    """A client's key, and the SHA-256 of what was sent with it."""

    key: str
    digest: str

    @classmethod
    def of(cls, key: str | None, question: BaseModel, content: bytes = b"") -> Once | None:
        """What identifies a question with its picture; None without a key."""
        if key is None:
            return None
        sent = hashlib.sha256(question.model_dump_json().encode() + b"\0")
        sent.update(hashlib.sha256(content).digest())
        return cls(key, sent.hexdigest())


def known_job(session: Session, once: Once) -> Job | None:
    """The job of an earlier request with this key; one with another body is a 422 problem."""
    job = session.scalars(select(Job).where(Job.idempotency_key == once.key)).one_or_none()
    if job is not None and job.request_digest != once.digest:
        raise ProblemError(
            422,
            "idempotency-key-reused",
            "The Idempotency-Key was used with another body",
            f"it belongs to {job.id}",
        )
    return job


def submit_once(database: TenantDatabase, once: Once | None, make: Callable[[Session], Job]) -> Job:
    """The job that ``make`` submits, or that the same request submitted before or meanwhile."""
    try:
        with database.write() as session:
            if once is not None and (known := known_job(session, once)):
                return known
            job = make(session)
            if once is not None:
                job.idempotency_key, job.request_digest = once.key, once.digest
                session.flush()
            return job
    except (IntegrityError, ProblemError):
        # The same request was faster, and may have taken the last place that there was.
        if once is not None:
            with database.read() as session:
                if known := known_job(session, once):
                    return known
        raise
