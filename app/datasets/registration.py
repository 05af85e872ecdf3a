"""Registering training images: each is looked at, and nothing is written until all were."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import BoundedSemaphore
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.allowed_paths import allowed_path
from app.config import Settings
from app.database.engine import TenantDatabase
from app.database.lookup import by_id_or_name
from app.database.tables import Dataset, RefusedImage, Sample
from app.datasets.image_checker import ImageChecker
from app.datasets.licences import Licences
from app.datasets.schemas import DatasetIn
from app.identifiers import new_id
from app.problems import ProblemError
from app.provenance.opt_outs import read_opt_out
from app.takedowns.service import hold_tenant, take_out, taken_digests
from attribution.image_data import sample as described
from attribution.image_data.opening import ImageData, listed, open_image_data
from attribution.image_data.sample import ImageDataError, Refused

LOOKED_AT_ONCE = 256
ROWS_AT_ONCE = 1000
AT_ONCE, PATIENCE = 4, 30.0

# Each holds a thread of the server and as many programs as there are processors.
_looking = BoundedSemaphore(AT_ONCE)


@dataclass(frozen=True)
class LookedAt:
    """How far a registration is: images looked at, of how many, and refused so far."""

    done: int
    total: int
    refused: int


@dataclass(frozen=True)
class Registered:
    """A dataset, and whether it is a new one."""

    dataset: Dataset
    new: bool


@dataclass(frozen=True)
class Image:
    """An image that can be used, and what its file says."""

    sample: described.Sample
    digest: str
    opt_out: dict[str, str] | None


Registering = Generator[LookedAt, None, Registered]


def finish(steps: Registering) -> Registered:
    """Take all steps of a registration."""
    while not isinstance(step := advance(steps), Registered):
        pass
    return step


def advance(steps: Registering) -> LookedAt | Registered:
    """Take one step, or find that it was the last."""
    try:
        return next(steps)
    except StopIteration as end:
        registered: Registered = end.value
        return registered


def registering(database: TenantDatabase, settings: Settings, wanted: DatasetIn) -> Registering:
    """Look at the images, then write their rows; each step says how far it is.

    The same name again is the same dataset if path and content are equal, and else a problem.
    """
    path = allowed_path(wanted.path, settings.dataset_roots)
    try:
        data = open_image_data(path, {str(field): name for field, name in wanted.fields.items()})
        samples, refused = listed(data, skip=wanted.skip_invalid)
    except ImageDataError as error:
        raise _unusable(str(error)) from None
    except OSError as error:
        raise _unusable(f"{error.filename}: {error.strerror}") from None
    with database.read() as session:
        known = _by_name(session, wanted.name)
        left_out = refused_keys(session, known.id) if known else set()
    if known:
        samples = [sample for sample in samples if sample.key not in left_out]
        return Registered(_same(known, path, samples_digest(samples)), False)
    yield LookedAt(0, len(samples), len(refused))
    images: list[Image] = []
    for number, looked_at in enumerate(_look_at(data, samples), start=1):
        if isinstance(looked_at, Image):
            images.append(looked_at)
        elif wanted.skip_invalid:
            refused.append(looked_at)
        else:
            raise _unusable(str(looked_at))
        if number % LOOKED_AT_ONCE == 0:
            yield LookedAt(number, len(samples), len(refused))
    if not images:
        raise _unusable(f"no image can be used; the first: {refused[0]}")
    yield LookedAt(len(samples), len(samples), len(refused))
    return _write(database, wanted, path, data, images, refused)


def refused_keys(session: Session, dataset_id: str) -> set[str]:
    """The images of a dataset that its registration left out."""
    query = select(RefusedImage.what).where(RefusedImage.dataset_id == dataset_id)
    return set(session.scalars(query))


def samples_digest(samples: Sequence[described.Sample]) -> str:
    """SHA-256 over the rows in their order, in hexadecimal."""
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(json.dumps(_said(sample), sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def _said(sample: described.Sample) -> dict[str, Any]:
    """What is said of an image; what older releases did not read only where it is said."""
    since_ever = ("key", "text", "creator", "licence", "source")
    said = {field: getattr(sample, field) for field in since_ever}
    newer = {"creator_uri": sample.creator_uri, "opt_out": sample.opt_out}
    return said | {field: value for field, value in newer.items() if value is not None}


def _look_at(data: ImageData, samples: Sequence[described.Sample]) -> Iterator[Image | Refused]:
    """Read and decode images, on every processor and in their order."""
    licences, processors = Licences(), os.cpu_count() or 1
    free: SimpleQueue[ImageChecker] = SimpleQueue()

    def look(sample: described.Sample) -> Image | Refused:
        if fault := licences.fault(sample.licence):
            return Refused(sample.key, fault)
        try:
            content = data.read(sample)
        except (OSError, ImageDataError) as error:
            told = error.strerror if isinstance(error, OSError) else None
            return Refused(sample.key, f"it cannot be read: {told or error}")
        checker = free.get()
        try:
            fault = checker.fault(content)
        finally:
            free.put(checker)
        if fault:
            return Refused(sample.key, fault)
        opt_out = (sample.opt_out or {}) | (read_opt_out(content) or {})
        return Image(sample, hashlib.sha256(content).hexdigest(), opt_out or None)

    if not _looking.acquire(timeout=PATIENCE):
        title = "Too many datasets are being registered"
        raise ProblemError(503, "registering-busy", title, headers={"Retry-After": "30"})
    with ExitStack() as stack:
        stack.callback(_looking.release)
        for _ in range(processors):
            free.put(stack.enter_context(ImageChecker()))
        pool = stack.enter_context(ThreadPoolExecutor(processors))
        # Some at a time, so that who gives up does not wait for a hundred thousand.
        for start in range(0, len(samples), LOOKED_AT_ONCE):
            yield from pool.map(look, samples[start : start + LOOKED_AT_ONCE])


def _write(
    database: TenantDatabase,
    wanted: DatasetIn,
    path: Path,
    data: ImageData,
    images: Sequence[Image],
    refused: Sequence[Refused],
) -> Registered:
    digest = samples_digest([image.sample for image in images])
    try:
        with database.write() as session:
            dataset = Dataset(
                id=new_id("ds"),
                name=wanted.name,
                path=str(path),
                form=data.form,
                fields=dict(wanted.fields),
                digest=digest,
                sample_count=len(images),
                refused_count=len(refused),
            )
            session.add(dataset)
            session.flush()
            for start in range(0, len(images), ROWS_AT_ONCE):
                some = images[start : start + ROWS_AT_ONCE]
                session.execute(insert(Sample), [_row(dataset, image) for image in some])
            for start in range(0, len(refused), ROWS_AT_ONCE):
                left_out = enumerate(refused[start : start + ROWS_AT_ONCE], start=start)
                session.execute(
                    insert(RefusedImage),
                    [
                        {
                            "dataset_id": dataset.id,
                            "number": number,
                            "what": one.what,
                            "reason": one.reason,
                        }
                        for number, one in left_out
                    ],
                )
            _leave_out_taken(session, database.tenant, dataset, images)
    except IntegrityError:
        # Somebody registered the name since we looked.
        with database.read() as session:
            known = by_id_or_name(session, Dataset, wanted.name)
            return Registered(_same(known, path, digest), False)
    return Registered(dataset, True)


def _row(dataset: Dataset, image: Image) -> dict[str, Any]:
    said = {field: getattr(image.sample, field) for field in ("key", *described.OWNER_FIELDS)}
    return said | {
        "dataset_id": dataset.id,
        "place": image.sample.place,
        "digest": image.digest,
        "opt_out": image.opt_out,
    }


def _leave_out_taken(
    session: Session, tenant_id: str, dataset: Dataset, images: Sequence[Image]
) -> None:
    """What the tenant has taken down does not come back under another name."""
    hold_tenant(session, tenant_id, share=True)
    taken = taken_digests(session, {image.digest for image in images})
    gone = [image for image in images if image.digest in taken]
    if len(gone) == len(images):
        raise ProblemError(422, "dataset-taken-down", "All of the images were taken down")
    for takedown_id in sorted(set(taken.values())):
        theirs = {
            image.sample.key: image.digest for image in gone if taken[image.digest] == takedown_id
        }
        take_out(session, dataset.id, theirs, takedown_id)


def _by_name(session: Session, name: str) -> Dataset | None:
    return session.scalars(select(Dataset).where(Dataset.name == name)).one_or_none()


def _same(known: Dataset, path: Path, digest: str) -> Dataset:
    if (known.path, known.digest) != (str(path), digest):
        raise ProblemError(
            409,
            "dataset-exists",
            "Another dataset has this name",
            f"{known.name!r} is {known.id}, registered with other content",
        )
    return known


def _unusable(reason: str) -> ProblemError:
    return ProblemError(422, "dataset-unusable", "The images cannot be used as they are", reason)
