"""Where the files of index versions lie: a directory each, and a new one after each takedown."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from uuid import uuid4

from sqlalchemy import select

from app.database.engine import Database
from app.database.tables import IndexVersion

PARENT = "indexes"


def directory_of(index_id: str, taken: int = 0) -> str:
    """The directory of a version over a dataset of which so many images were taken down.

    What a dataset has lost only grows, so the number says which images a version is without.
    """
    return f"{PARENT}/{index_id}.{taken}" if taken else f"{PARENT}/{index_id}"


def discard(home: Path, index_id: str, *, older_than: str | None = None) -> None:
    """Delete the directories of a version: all, or those that this one has replaced."""
    for directory in (home / PARENT).glob(f"{index_id}*"):
        if older_than is None or _taken(directory) < _taken(Path(older_than)):
            _delete(directory)


def sweep_directories(database: Database, home: Path, before: datetime) -> int:
    """Delete what no version lives in and nobody wrote to since; return how many there were.

    They are left by builds that failed, and by crashes in the middle of a takedown or a deletion.
    """
    # Listed first: the row of a directory that is there is written by now.
    found = [*(home / PARENT).glob("idx_*"), *(home / PARENT).glob(".*")]
    if not found:
        return 0
    lives = select(IndexVersion.directory).where(IndexVersion.state != "failed")
    with database.read() as session:
        kept = {home / directory for directory in session.scalars(lives)}
    swept = [
        directory
        for directory in found
        if directory not in kept and _last_written(directory) < before.timestamp()
    ]
    for directory in swept:
        _delete(directory)
    return len(swept)


def _taken(directory: Path) -> int:
    return int(directory.suffix[1:] or 0)


def _delete(directory: Path) -> None:
    """Out of sight at once: what is half deleted must not pass for a version."""
    try:
        gone = directory.rename(directory.with_name(f".{directory.name}.{uuid4().hex}"))
    except FileNotFoundError:
        return
    shutil.rmtree(gone, ignore_errors=True)


def _last_written(directory: Path) -> float:
    def times() -> Iterator[float]:
        for path in (directory, *directory.rglob("*")):
            try:
                yield path.stat().st_mtime
            except FileNotFoundError:
                continue

    return max(times(), default=0.0)
