"""The reaper: no job is lost with its worker or with its message."""

from __future__ import annotations

import logging
from collections.abc import Collection
from datetime import timedelta

from app import heartbeats
from app.attributions.retention import forget_old_attributions
from app.config import Settings
from app.database.engine import Database
from app.database.tables import now
from app.indexes.directories import sweep_directories
from app.jobs.kinds import Queue
from app.jobs.recovery import announce_again, expire_overdue, recover_expired
from app.storage import ImageStore, sweep

logger = logging.getLogger(__name__)


def reap(database: Database, settings: Settings, empty: Collection[Queue] = ()) -> None:
    """Recover jobs whose lease ran out and that nobody claims, end overdue ones, sweep pictures.

    ``empty``: queues in which the broker has no message.
    """
    with database.write() as session:
        expired = recover_expired(session, settings)
    overdue = _expire_all(database)
    with database.write() as session:
        waiting = announce_again(session, settings, empty)
    with database.write() as session:
        heartbeats.forget_old(session, settings)
    forgotten = forget_old_attributions(database, settings)
    if forgotten:
        logger.info("deleted %d attributions after their time", forgotten)
    before = now() - timedelta(seconds=settings.sweep_seconds)
    swept = sweep(database, ImageStore(settings.home), before)
    if swept:
        logger.info("deleted %d pictures of no job", swept)
    directories = sweep_directories(database, settings.home, before)
    if directories:
        logger.info("deleted %d directories of no index", directories)
    if overdue:
        logger.info("%d jobs were overdue", overdue)
    if expired or waiting:
        logger.info("recovered %d expired leases, announced %d jobs again", expired, waiting)


def _expire_all(database: Database) -> int:
    """However many there are, but in small transactions: others want to write too."""
    overdue = 0
    while True:
        with database.write() as session:
            ended = expire_overdue(session)
        if not ended:
            return overdue
        overdue += ended
