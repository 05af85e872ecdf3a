"""The task that answers a question: draw the picture if need be, then attribute it."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import TYPE_CHECKING

from celery import shared_task
from PIL import Image
from sqlalchemy import select

from app.database import tables
from app.jobs.claims import attach_image
from app.jobs.kinds import ATTRIBUTION, TASKS
from app.storage import ImageStore, record_image
from attribution.metadata import Sample
from workers.execution import Outcome, run_job
from workers.leases import Lease
from workers.process import database, settings

if TYPE_CHECKING:
    from attribution.denoisers import Denoiser


@shared_task(name=TASKS[ATTRIBUTION])  # type: ignore[untyped-decorator]  # celery is untyped
def attribute(job_id: str) -> None:
    """Do one attribution job."""
    run_job(database(), settings(), job_id, answer)


def answer(job: tables.Job, lease: Lease) -> Outcome:
    """The JSON-ready answer to a job's question."""
    from attribution.answers import compose_answer
    from attribution.methods import method_for
    from workers.model_cache import open_attributor

    lease.report("loading", 0.0)
    assert job.index_id is not None
    attributor = open_attributor(job.index_id)
    question = job.request
    # Before a picture is drawn for a question that the index cannot answer.
    method_for(question["method"], attributor.index.manifest.config)
    image = (
        Image.open(ImageStore(settings().home).path(job.image_digest))
        if job.image_digest
        else draw(job, lease, attributor.denoiser)
    )
    attribution = attributor.attribute(
        image,
        caption=question.get("prompt") or question.get("caption"),
        method=question["method"],
        candidates=question["candidates"],
        candidate_count=question["candidate_count"],
        on_progress=lease.report,
    )
    return Outcome(compose_answer(attribution, owners(job.index_id), question["top_k"]))


def draw(job: tables.Job, lease: Lease, denoiser: Denoiser) -> Image.Image:
    """Draw the picture of a prompt and show it with the job before it is attributed."""
    question = job.request
    image = denoiser.generate(
        question["prompt"],
        question["seed"],
        steps=question["steps"],
        guidance_scale=question["guidance_scale"],
        negative_prompt=question["negative_prompt"],
        on_progress=lambda fraction: lease.report("drawing", fraction),
    )
    png = io.BytesIO()
    image.save(png, "PNG")
    digest = ImageStore(settings().home).put(png.getvalue())
    with database().write() as session:
        record_image(session, digest, image.size)
        attach_image(session, lease.claim, digest)
    return image


@lru_cache(2)
def owners(index_id: str) -> dict[str, Sample]:
    """The samples of an index's dataset by key; they never change."""
    query = (
        select(tables.Sample)
        .join(tables.IndexVersion, tables.IndexVersion.dataset_id == tables.Sample.dataset_id)
        .where(tables.IndexVersion.id == index_id)
    )
    with database().read() as session:
        return {
            row.key: Sample(row.key, row.text, row.creator, row.licence, row.source)
            for row in session.scalars(query)
        }
