"""Answering a question: draw the picture if need be, then attribute it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from PIL import Image
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.database import tables
from app.datasets.licence_conflicts import licence_conflicts
from app.evidence import service as evidence
from app.evidence.schemas import EvidenceOut
from app.jobs.claims import attach_image
from app.provenance.signatures import submit_signing
from app.storage import ImageStore, record_image
from app.takedowns.service import taken_keys
from attribution.image_data.sample import Sample
from workers.execution import Outcome
from workers.leases import Lease
from workers.process import database, settings

if TYPE_CHECKING:
    from attribution.denoisers import Denoiser, Drawing


def answer(job: tables.Job, lease: Lease) -> Outcome:
    """The JSON-ready answer to a job's question."""
    from attribution.answers import compose_answer
    from workers.model_cache import open_attributor

    lease.report("loading", 0.0)
    assert job.index_id is not None
    whose = catalogue_of(job.index_id)
    attributor = open_attributor(job.index_id)
    question = job.request
    image = (
        Image.open(ImageStore(settings().home).path(job.image_digest))
        if job.image_digest
        else draw(job, lease, attributor.denoiser)
    )
    attribution = attributor.attribute(
        image,
        caption=question.get("prompt") or question.get("caption"),
        drawing=drawing_of(question) if "prompt" in question else None,
        method=question["method"],
        candidates=question["candidates"],
        candidate_count=question["candidate_count"],
        on_progress=lease.report,
    )
    measured = evidence_for(job.index_id, question["method"])

    def composed(whose: Catalogue) -> dict[str, Any]:
        considered = attribution.without(whose.taken) if whose.taken else attribution
        found = compose_answer(considered, samples_of(whose), question["top_k"])
        conflicts = licence_conflicts(found["by_licence"], found.pop("opted_out"))
        return found | {"licence_conflicts": conflicts, "evidence": measured}

    def also(session: Session) -> None:
        # No takedown comes between what is looked at here and the commit.
        dataset = session.get_one(tables.Dataset, whose.dataset_id, with_for_update={"read": True})
        now = Catalogue.of(session, dataset)
        if now != whose:  # images were taken down while the answer was computed
            session.get_one(tables.Job, job.id).result = composed(now)
        submit_signing(session, settings(), job)

    return Outcome(composed(whose), also)


def drawing_of(question: dict[str, Any]) -> Drawing:
    """How a prompt's picture is drawn."""
    from attribution.denoisers import Drawing

    return Drawing(
        question["seed"],
        question["steps"],
        question["guidance_scale"],
        question["negative_prompt"],
    )


def draw(job: tables.Job, lease: Lease, denoiser: Denoiser) -> Image.Image:
    """Draw the picture of a prompt and show it with the job before it is attributed."""
    question = job.request
    image = denoiser.generate(
        question["prompt"],
        drawing_of(question),
        on_step=lambda done, step: lease.report("drawing", done / question["steps"]),
    )
    png = io.BytesIO()
    image.save(png, "PNG")
    digest = ImageStore(settings().home).put(png.getvalue())
    with database().write() as session:
        record_image(session, digest, image.size)
        attach_image(session, lease.claim, digest)
    return image


def evidence_for(index_id: str, method: str) -> list[dict[str, Any]]:
    """What was measured of the method under the index's configuration, JSON-ready."""
    with database().read() as session:
        index = session.get_one(tables.IndexVersion, index_id)
        return [
            EvidenceOut.model_validate(row).model_dump(mode="json")
            for row in evidence.of_indexes(session, [index])[index_id]
            if row.method == method
        ]


@dataclass(frozen=True)
class Catalogue:
    """A dataset as an answer finds it, and which images its takedowns have taken so far."""

    dataset_id: str
    revision: int
    taken: frozenset[str]

    @classmethod
    def of(cls, session: Session, dataset: tables.Dataset) -> Catalogue:
        """What there is at this moment."""
        return cls(dataset.id, dataset.revision, taken_keys(session, dataset.id))


def catalogue_of(index_id: str) -> Catalogue:
    """That of an index's dataset."""
    with database().read() as session:
        index = session.get_one(tables.IndexVersion, index_id)
        return Catalogue.of(session, session.get_one(tables.Dataset, index.dataset_id))


@lru_cache(2)
def samples_of(whose: Catalogue) -> dict[str, Sample]:
    """The samples of a dataset by key; they change with its revision only."""
    query = select(tables.Sample).where(tables.Sample.dataset_id == whose.dataset_id)
    with database().read() as session:
        return {
            row.key: Sample(
                row.key,
                row.text,
                row.creator,
                row.licence,
                row.source,
                row.creator_uri,
                row.opt_out,
            )
            for row in session.scalars(query)
        }
