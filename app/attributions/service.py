"""Accepting questions: which index they go to, and the job that answers them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy.orm import Session

from app.attributions import repository
from app.attributions.idempotency import Once, known_job, submit_once
from app.attributions.retention import forget
from app.attributions.schemas import (
    AttributionOut,
    AttributionUrls,
    ImageQuestion,
    PromptQuestion,
    Question,
    UrlQuestion,
)
from app.config import Settings
from app.database.engine import TenantDatabase
from app.database.lookup import by_id_or_name, index_by_id
from app.database.tables import IndexVersion, Job, Model, now
from app.indexes.methods import served_methods
from app.indexes.schemas import Progress
from app.jobs.admission import admit, refusal
from app.jobs.cancellation import cancel
from app.jobs.kinds import ATTRIBUTION, BATCH, INTERACTIVE
from app.jobs.submission import submit
from app.problems import ProblemError
from app.storage import Exports, ImageStore, record_image
from app.uploads import Upload, check_upload, fetch_image
from app.webhooks.tenant_secret import accept_url
from attribution.methods import method_named

ROUTING = {"model", "index", "webhook_url"}
PARTS = ("events", "image", "cancel", "c2pa", "prov", "receipt")


def ask_about_image(
    database: TenantDatabase,
    settings: Settings,
    images: ImageStore,
    question: ImageQuestion,
    content: bytes,
    idempotency_key: str | None = None,
) -> Job:
    """Check the picture and submit the question about it; nothing is kept of a refused one."""
    once = Once.of(idempotency_key, question, content)
    return _ask_about(database, settings, images, question, once, lambda: content)


def ask_about_url(
    database: TenantDatabase,
    settings: Settings,
    images: ImageStore,
    question: UrlQuestion,
    idempotency_key: str | None = None,
) -> Job:
    """The same of a picture that is fetched first, if the request is new."""
    once = Once.of(idempotency_key, question)
    fetch = partial(fetch_image, question.image_url, settings)
    return _ask_about(database, settings, images, question, once, fetch)


def _ask_about(
    database: TenantDatabase,
    settings: Settings,
    images: ImageStore,
    question: ImageQuestion,
    once: Once | None,
    read: Callable[[], bytes],
) -> Job:
    with database.read() as session:
        # Before the picture is fetched or decoded; and looked at before the known job is, for
        # that may be what has just taken the last place.
        refused = refusal(session, settings, database.tenant, _priority(question))
        if once is not None and (known := known_job(session, once)):
            return known
        if refused:
            raise refused
        _index_for(session, question)
        accept_url(session, settings, question.webhook_url)
    if question.method and "trajectory" in method_named(question.method).needs:
        raise ProblemError(
            422,
            "trajectory-unknown",
            "The method needs a picture that the model draws",
            f"{question.method} follows the drawing: ask about a prompt and a seed",
        )
    upload: Upload = check_upload(read(), settings)
    digest = images.put(upload.png)
    request = question.model_dump(exclude=ROUTING) | {
        "original_sha256": upload.original_sha256,
        "original_type": upload.original_type,
        "picture_credentials": upload.credentials,
    }

    def make(session: Session) -> Job:
        index, request["method"] = _index_for(session, question)
        record_image(session, digest, upload.size)
        return _submit(database, session, settings, question, request, index, digest)

    return submit_once(database, once, make)


def ask_about_prompt(
    database: TenantDatabase,
    settings: Settings,
    question: PromptQuestion,
    idempotency_key: str | None = None,
) -> Job:
    """Submit a prompt; the worker draws the picture."""

    def make(session: Session) -> Job:
        index, method = _index_for(session, question)
        model = session.get_one(Model, index.model_id)
        _must_follow(model, question)
        accept_url(session, settings, question.webhook_url)
        request = question.model_dump(exclude=ROUTING) | {"method": method}
        if question.guidance_scale is None:
            request["guidance_scale"] = model.kind.guidance
        return _submit(database, session, settings, question, request, index)

    return submit_once(database, Once.of(idempotency_key, question), make)


def _must_follow(model: Model, question: PromptQuestion) -> None:
    told = None
    if model.follows == "nothing":
        told = f"it is a {model.pipeline_class}"
    elif model.follows == "class" and question.negative_prompt:
        told = f"a {model.pipeline_class} follows classes and knows no negative prompt"
    if told:
        raise ProblemError(422, "prompt-unsupported", "The model cannot follow a prompt", told)


def _submit(
    database: TenantDatabase,
    session: Session,
    settings: Settings,
    question: Question,
    request: dict[str, Any],
    index: IndexVersion,
    image_digest: str | None = None,
) -> Job:
    priority = _priority(question)
    admit(session, settings, database.tenant, priority)
    seconds = question.expires_in or settings.expire_seconds
    return submit(
        session,
        settings,
        ATTRIBUTION,
        request,
        index_id=index.id,
        image_digest=image_digest,
        priority=priority,
        expires_at=now() + timedelta(seconds=seconds) if seconds else None,
        webhook_url=question.webhook_url,
    )


def _priority(question: Question) -> int:
    return BATCH if question.priority == "batch" else INTERACTIVE


def cancel_attribution(database: TenantDatabase, attribution_id: str) -> Job:
    """Cancel an attribution; one that has ended otherwise is a 409 problem."""
    with database.write() as session:
        repository.find(session, attribution_id)
        canceled = cancel(session, attribution_id)
    with database.read() as session:
        job = repository.find(session, attribution_id)
    if not canceled and job.status != "canceled":
        raise ProblemError(
            409, "attribution-ended", "The attribution has ended already", f"it has {job.status}"
        )
    return job


def delete_attribution(database: TenantDatabase, settings: Settings, attribution_id: str) -> None:
    """Forget what was asked and answered; work on it stops, and its picture can be swept."""
    with database.write() as session:
        repository.find(session, attribution_id)
        cancel(session, attribution_id)
        forget(session, [attribution_id])
    Exports(settings.home).forget(attribution_id)


def present(job: Job) -> AttributionOut:
    """An attribution as the API shows it."""
    url = f"/v1/attributions/{job.id}"
    return AttributionOut(
        id=job.id,
        status=job.status,
        attempt=job.attempt,
        progress=Progress(stage=job.stage, fraction=job.fraction),
        index=job.index_id,
        request=job.request,
        result=job.result,
        problem=job.problem,
        created_at=job.created_at,
        expires_at=job.expires_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        urls=AttributionUrls(self=url, **{name: f"{url}/{name}" for name in PARTS}),
    )


def _index_for(session: Session, question: Question) -> tuple[IndexVersion, str]:
    """The version that a question goes to, and by which method; a 404, 409 or 422 if there is none.

    Where the active version does not answer the method, the newest one over the same dataset that
    does is asked.
    """
    model = by_id_or_name(session, Model, question.model) if question.model else None
    if question.index:
        index = index_by_id(session, question.index)
        if model is not None and index.model_id != model.id:
            raise ProblemError(409, "index-of-another-model", "The index is of another model")
        if index.state != "ready":
            raise ProblemError(
                409, "index-not-ready", "The index is not ready", f"it is {index.state}"
            )
        return index, _method_of(index, question.method)
    active = repository.active_indexes(session, model.id if model else None)
    if not active:
        raise ProblemError(409, "no-active-index", "No index is active", "build one at /v1/indexes")
    if len(active) > 1:
        raise ProblemError(
            422, "model-required", "Several models have an active index", "say which `model`"
        )
    index = active[0]
    if question.method and question.method not in served_methods(index):
        for other in repository.ready_indexes(session, index):
            if question.method in served_methods(other):
                return other, question.method
    return index, _method_of(index, question.method)


def _method_of(index: IndexVersion, wanted: str | None) -> str:
    served = served_methods(index)
    if not served:
        raise ProblemError(
            409, "index-outdated", "The index was built by an older release", "build it again"
        )
    if wanted is None:
        return served[0]
    if wanted not in served:
        raise ProblemError(
            409,
            "method-not-served",
            "No index answers this method",
            f"build one at /v1/indexes with method {wanted}; {index.id} answers"
            f" {', '.join(served)}",
        )
    return wanted
