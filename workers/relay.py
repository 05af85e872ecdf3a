"""The relay: sends what the outbox holds.  ``python -m workers.relay`` runs it and the reaper."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Sequence

from celery import Celery
from kombu.exceptions import OperationalError
from sqlalchemy.exc import SQLAlchemyError

from app import heartbeats, logs
from app.config import Settings
from app.database.engine import Database
from app.database.tables import OutboxMessage
from app.jobs.kinds import TASKS, queue_of
from app.jobs.outbox import postpone, remove_sent, reserve_due
from app.webhooks.deliveries import submit_deliveries
from workers.broker import empty_queues, make_celery
from workers.reaper import reap

POLL_SECONDS = 0.2
PAUSE_SECONDS = 2.0

logger = logging.getLogger(__name__)


def relay(database: Database, celery: Celery) -> int:
    """Send the due messages; return how many went out.

    With the broker down the messages stay, and are tried again ever more slowly.
    """
    with database.write() as session:
        messages = reserve_due(session)
    sent = _send(celery, messages)
    if messages:
        with database.write() as session:
            remove_sent(session, [message.id for message in messages[:sent]])
            postpone(session, [message.id for message in messages[sent:]])
    return sent


def _send(celery: Celery, messages: Sequence[OutboxMessage]) -> int:
    """Send messages up to the first failure; return how many were sent."""
    for sent, message in enumerate(messages):
        try:
            celery.send_task(TASKS[queue_of(message.kind)], retry=False)
        except (OperationalError, OSError) as error:
            logger.warning("the broker cannot be reached", exc_info=error)
            return sent
    return len(messages)


def run(database: Database, settings: Settings, celery: Celery, stop: threading.Event) -> None:
    """Relay and reap until told to stop; outlives a database or broker that is away."""
    reap_seconds = min(settings.lease_seconds, settings.resend_seconds) / 4
    reaped = beaten = float("-inf")
    while not stop.is_set():
        try:
            if time.monotonic() > beaten + settings.heartbeat_seconds:
                # From the loop itself: a relay that hangs is not alive.
                heartbeats.beat(database, "relay")
                beaten = time.monotonic()
            if time.monotonic() > reaped + reap_seconds:
                reap(database, settings, empty_queues(celery, settings))
                reaped = time.monotonic()
            with database.write() as session:
                submit_deliveries(session, settings)
            if relay(database, celery) == 0:
                stop.wait(POLL_SECONDS)
        except SQLAlchemyError:
            logger.exception("the database cannot be used")
            stop.wait(PAUSE_SECONDS)


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    settings = Settings()
    logs.configure(settings.log_format, "relay")
    run(Database(settings.database_url), settings, make_celery(settings), stop)


if __name__ == "__main__":
    main()
