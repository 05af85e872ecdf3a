"""Files of the installation: pictures by the SHA-256 of their content, and what is made of them."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import delete, exists, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from app.database.engine import Database
from app.database.tables import Job, StoredImage, now

# Both databases know ON CONFLICT; SQLAlchemy has it in each one's own statement.
_INSERTS: dict[str, Callable[..., Any]] = {
    "postgresql": postgresql.insert,
    "sqlite": sqlite.insert,
}


class ImageStore:
    """PNG files below a directory, spread over 256 folders."""

    def __init__(self, home: Path) -> None:
        self.directory = home / "images"

    def path(self, digest: str) -> Path:
        """Where the picture of this digest lies."""
        return self.directory / digest[:2] / f"{digest}.png"

    def put(self, png: bytes) -> str:
        """Write a picture, unless it is there; return its digest."""
        digest = hashlib.sha256(png).hexdigest()
        target = self.path(digest)
        if target.is_file():
            os.utime(target)  # in use again: not to be swept
            return digest
        write_whole(target, png)
        return digest


class Thumbnails:
    """Small pictures of training images, by the SHA-256 of those; made when first asked for."""

    def __init__(self, home: Path) -> None:
        self.directory = home / "thumbnails"

    def path(self, digest: str) -> Path:
        """Where the thumbnail of this file lies."""
        return self.directory / digest[:2] / f"{digest}.png"

    def forget(self, digest: str) -> None:
        """Delete a thumbnail, if there is one."""
        self.path(digest).unlink(missing_ok=True)


class Exports:
    """Signed copies of pictures and manifests beside them, by attribution."""

    def __init__(self, home: Path) -> None:
        self.directory = home / "exports"

    def picture(self, attribution_id: str) -> Path:
        """The picture with its manifest inside."""
        return self.directory / f"{attribution_id}.png"

    def sidecar(self, attribution_id: str) -> Path:
        """The manifest alone."""
        return self.directory / f"{attribution_id}.c2pa"

    def forget(self, attribution_id: str) -> None:
        """Delete both, if they are there."""
        self.picture(attribution_id).unlink(missing_ok=True)
        self.sidecar(attribution_id).unlink(missing_ok=True)


def free_bytes(home: Path) -> int:
    """What the disk has left for an installation, be its home there yet or not."""
    return shutil.disk_usage(next(each for each in (home, *home.parents) if each.exists())).free


def write_whole(target: Path, content: bytes) -> None:
    """Write a file, whole or not at all, and on the disk when this returns."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_directory(target.parent)


def record_image(session: Session, digest: str, size: tuple[int, int]) -> None:
    """Write the row of a stored picture, or its date; ``size`` is (width, height)."""
    insert = _INSERTS[session.get_bind().dialect.name](StoredImage)
    stored = {"digest": digest, "width": size[0], "height": size[1], "stored_at": now()}
    again = {"stored_at": insert.excluded.stored_at}
    session.execute(
        insert.values(stored).on_conflict_do_update(index_elements=["digest"], set_=again)
    )


def sweep(database: Database, images: ImageStore, before: datetime, limit: int = 100) -> int:
    """Delete pictures that no job speaks of and nobody stored since; return how many there were.

    The row goes first: a picture that is stored meanwhile writes its row and its date anew.
    """
    unused = (
        select(StoredImage.digest)
        .where(
            StoredImage.stored_at < before, ~exists().where(Job.image_digest == StoredImage.digest)
        )
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    with database.write() as session:
        swept = session.scalars(unused).all()
        session.execute(delete(StoredImage).where(StoredImage.digest.in_(swept)))
    for digest in swept:
        file = images.path(digest)
        if file.is_file() and file.stat().st_mtime < before.timestamp():
            file.unlink(missing_ok=True)
    return len(swept)


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
