"""``headwater doctor``: what is wrong with this installation, and what to do about it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import kombu
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from sqlalchemy import func, make_url, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app import heartbeats
from app.config import Settings
from app.database.engine import Database
from app.database.migrate import is_current
from app.database.tables import IndexVersion, Job, Model, OutboxMessage, now
from app.problems import ProblemError
from app.storage import free_bytes
from attribution.errors import InputError
from attribution.index.manifest import Manifest
from attribution.model_directory import CLIP_WEIGHTS, model_digest, safe_weights_digest
from workers.broker import make_celery

State = Literal["ok", "warning", "failure"]

SPACE_BYTES = 2_000_000_000
LATE = timedelta(minutes=2)
EXPIRES_SOON = timedelta(days=30)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    state: State
    told: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at everything that can be wrong, one finding after the other.

    What needs the database is not looked at without it.
    """
    yield _folders(settings)
    yield _space(settings)
    yield _broker(settings)
    yield from _certificate(settings)
    yield _device(settings)
    url = make_url(settings.database_url)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        # To look into it would make it.
        yield Finding("database", "failure", "it has not been made yet: headwater serve")
        return
    try:
        database = Database(settings.database_url)
        current = is_current(database)
    except (SQLAlchemyError, OSError):
        yield Finding("database", "failure", "it cannot be reached: see HEADWATER_DATABASE_URL")
        return
    if not current:
        yield Finding("database", "failure", "its tables are another version's: headwater migrate")
        database.close()
        return
    yield Finding("database", "ok", database.engine.url.get_backend_name())
    with database.read() as session:
        yield _programs(session, settings)
        yield _messages(session)
        yield _waiting(session)
        yield from _indexes(session, settings)
        yield from _models(session)
    database.close()


def _folders(settings: Settings) -> Finding:
    roots = {*settings.model_roots, *settings.dataset_roots}
    lost = sorted(str(root) for root in roots if not _readable(root))
    if lost:
        return Finding("folders", "failure", f"cannot be read: {', '.join(lost)}")
    home = settings.home if settings.home.exists() else settings.home.parent
    if not os.access(home, os.W_OK):
        return Finding("folders", "failure", f"{settings.home} cannot be written to")
    return Finding("folders", "ok", f"home is {settings.home}")


def _readable(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.R_OK | os.X_OK)


def _space(settings: Settings) -> Finding:
    free = free_bytes(settings.home)
    told = f"{free / 1e9:.1f} GB are free"
    if free < settings.min_free_bytes:
        return Finding("disk", "failure", f"{told}: new work is refused")
    return Finding("disk", "ok" if free > SPACE_BYTES else "warning", told)


def _broker(settings: Settings) -> Finding:
    try:
        with make_celery(settings).connection() as connection:
            connection.ensure_connection(max_retries=1, timeout=5)
    except (kombu.exceptions.OperationalError, OSError):
        return Finding("broker", "failure", "it cannot be reached: see HEADWATER_BROKER_URL")
    except (KeyError, ValueError, ImportError):
        return Finding("broker", "failure", "HEADWATER_BROKER_URL is no broker's that is known")
    return Finding("broker", "ok", settings.broker_url.partition(":")[0])


def _certificate(settings: Settings) -> Iterator[Finding]:
    if settings.c2pa_certificate is None:
        return
    try:
        found = x509.load_pem_x509_certificates(settings.c2pa_certificate.read_bytes())
    except (OSError, ValueError):
        yield Finding(
            "certificate", "failure", f"{settings.c2pa_certificate} cannot be read as PEM"
        )
        return
    ends = min(each.not_valid_after_utc for each in found)
    left = ends - datetime.now(UTC)
    state: State = "ok" if left > EXPIRES_SOON else "warning" if left > timedelta() else "failure"
    yield Finding("certificate", state, f"valid until {ends:%Y-%m-%d}")
    yield _private_key(settings.c2pa_private_key, found[0])


def _private_key(path: Path | None, certificate: x509.Certificate) -> Finding:
    if path is None or not os.access(path, os.R_OK):
        return Finding("private key", "failure", "it is not readable here: the CPU worker needs it")
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return Finding("private key", "failure", f"{path} is no PEM key without a password")
    if key.public_key() != certificate.public_key():
        return Finding("private key", "failure", "it is another one than the certificate's")
    return Finding("private key", "ok", "it is the certificate's")


def _device(settings: Settings) -> Finding:
    import torch

    if settings.device.startswith("cuda") and not torch.cuda.is_available():
        return Finding("device", "failure", f"{settings.device} is set, and torch sees no GPU")
    return Finding("device", "ok", f"{settings.device}, torch {torch.__version__}")


def _programs(session: Session, settings: Settings) -> Finding:
    gone = heartbeats.missing(session, settings)
    if gone:
        return Finding("programs", "failure", f"nothing was heard lately of: {', '.join(gone)}")
    return Finding("programs", "ok", "workers and relay are alive")


def _messages(session: Session) -> Finding:
    late = session.scalar(
        select(func.count()).select_from(OutboxMessage).where(OutboxMessage.due_at < now() - LATE)
    )
    if late:
        return Finding(
            "outbox", "warning", f"{late} messages are overdue: are relay and broker up?"
        )
    return Finding("outbox", "ok", "nothing is overdue")


def _waiting(session: Session) -> Finding:
    count, oldest = session.execute(
        select(func.count(), func.min(Job.created_at)).where(Job.status == "queued")
    ).one()
    if oldest is None:
        return Finding("queue", "ok", "nothing waits")
    minutes = (now() - oldest).total_seconds() / 60
    state: State = "ok" if minutes < 60 else "warning"
    return Finding("queue", state, f"{count} jobs wait, the oldest for {minutes:.0f} minutes")


def _indexes(session: Session, settings: Settings) -> Iterator[Finding]:
    for index in session.scalars(select(IndexVersion).where(IndexVersion.state == "ready")):
        directory = settings.home / index.directory

        def check(directory: Path = directory, digest: str | None = index.manifest_digest) -> None:
            manifest = Manifest.read(directory)
            if manifest.digest != digest:
                raise InputError("its manifest is another one than the database knows")
            manifest.verify(directory)

        yield _checked(f"index {index.id}", check, "its files are whole")


def _models(session: Session) -> Iterator[Finding]:
    for model in session.scalars(select(Model)):

        def check(model: Model = model) -> None:
            lora = Path(model.lora) if model.lora else None
            weights = model_digest(Path(model.directory), lora)
            clip = safe_weights_digest(Path(model.clip_directory), CLIP_WEIGHTS)
            if (weights, clip) != (model.digest, model.clip_digest):
                raise InputError("its weights have changed since it was registered")

        yield _checked(f"model {model.name}", check, "its weights are those that were registered")


def _checked(what: str, check: Callable[[], None], told: str) -> Finding:
    try:
        check()
    except (InputError, ProblemError, OSError) as error:
        return Finding(what, "failure", str(error))
    return Finding(what, "ok", told)
