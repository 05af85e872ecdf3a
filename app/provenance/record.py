"""An attribution that has succeeded, as exports speak of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.database.tables import Dataset, IndexVersion, Job, Model, Sample
from app.problems import ProblemError


@dataclass(frozen=True)
class Record:
    """What was asked, what was answered, and what both rest on.

    ``subject`` is the SHA-256 of the picture as it was sent or drawn, ``picture`` that of the PNG
    that is kept of it; ``contents`` are the SHA-256 of the listed training images, by key, where
    known.
    """

    attribution_id: str
    index_id: str
    request: dict[str, Any]
    result: dict[str, Any]
    subject: str
    subject_type: str
    picture: str
    started_at: datetime
    finished_at: datetime
    model_name: str
    model_digest: str
    dataset_name: str
    contents: Mapping[str, str]

    @property
    def model_instance(self) -> str:
        """The model, by its weights."""
        return f"sha256:{self.model_digest}"

    def instance(self, key: str) -> str | None:
        """A training image, by its content; None where that is not known."""
        return f"sha256:{self.contents[key]}" if key in self.contents else None


def read_record(session: Session, job: Job) -> Record:
    """The record of a job; a 409 problem where it has not succeeded."""
    if job.status != "succeeded" or job.result is None or job.image_digest is None:
        raise ProblemError(
            409, "attribution-unfinished", "The attribution has no answer", f"it is {job.status}"
        )
    assert job.started_at is not None
    assert job.finished_at is not None
    # Of older uploads the type is not known: they are spoken of as they are kept.
    kind = job.request.get("original_type")
    index = session.get_one(IndexVersion, job.index_id)
    model = session.get_one(Model, index.model_id)
    dataset = session.get_one(Dataset, index.dataset_id)
    keys = [row["key"] for row in job.result["contributors"]]
    known = select(Sample.key, Sample.digest).where(
        Sample.dataset_id == dataset.id, Sample.key.in_(keys), Sample.digest.is_not(None)
    )
    return Record(
        attribution_id=job.id,
        index_id=index.id,
        request=job.request,
        result=job.result,
        subject=job.request["original_sha256"] if kind else job.image_digest,
        subject_type=kind or "image/png",
        picture=job.image_digest,
        started_at=job.started_at,
        finished_at=job.finished_at,
        model_name=model.name,
        model_digest=model.digest,
        dataset_name=dataset.name,
        contents={key: digest for key, digest in session.execute(known) if digest},
    )
