"""The relay with the broker up and down."""

from __future__ import annotations

import socket
import threading
from datetime import timedelta
from pathlib import Path
from queue import Empty

import pytest
from sqlalchemy import select, update

from app.config import Settings
from app.database.engine import Database
from app.database.migrate import upgrade
from app.database.tables import Job, OutboxMessage, now
from app.jobs.kinds import ATTRIBUTION, TASKS
from app.jobs.submission import submit
from workers.broker import empty_queues, make_celery
from workers.reaper import reap
from workers.relay import relay


def waiting(database: Database) -> list[OutboxMessage]:
    with database.read() as session:
        return list(session.scalars(select(OutboxMessage).order_by(OutboxMessage.id)))


def queued(settings: Settings) -> int:
    with make_celery(settings).connection() as connection:
        return int(connection.SimpleQueue(settings.gpu_queue).qsize())


def test_messages_are_sent_once(service: Settings, database: Database) -> None:
    with database.write() as session:
        for _ in range(3):
            submit(session, service, ATTRIBUTION, {})
    celery = make_celery(service)
    assert relay(database, celery) == 3
    assert relay(database, celery) == 0
    assert waiting(database) == []
    assert queued(service) == 3


def test_a_job_rolled_back_leaves_no_message(service: Settings, database: Database) -> None:
    def crash() -> None:
        with database.write() as session:
            submit(session, service, ATTRIBUTION, {})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        crash()
    assert waiting(database) == []


def test_with_the_broker_down_messages_stay(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = Settings(home=tmp_path, broker_url=f"redis://127.0.0.1:{port}/0")
    database = Database(settings.database_url)
    upgrade(database)
    with database.write() as session:
        submit(session, settings, ATTRIBUTION, {})
        submit(session, settings, ATTRIBUTION, {})
    assert relay(database, make_celery(settings)) == 0
    kept = waiting(database)
    assert [message.failures for message in kept] == [1, 1]
    assert all(message.due_at > now() for message in kept)

    # The broker is back: another one, which takes the messages.
    back = settings.model_copy(update={"broker_url": "filesystem://"})
    with database.write() as session:
        session.execute(update(OutboxMessage).values(due_at=now()))
    assert relay(database, make_celery(back)) == 2
    assert waiting(database) == []
    database.close()


def test_a_lost_message_is_sent_again(service: Settings, database: Database) -> None:
    with database.write() as session:
        job_id = submit(session, service, ATTRIBUTION, {}).id
    relay(database, make_celery(service))
    reap(database, service)
    assert waiting(database) == []
    with database.write() as session:
        session.execute(update(Job).values(resend_at=now() - timedelta(seconds=1)))
    reap(database, service)
    reap(database, service)
    assert [message.job_id for message in waiting(database)] == [job_id]


def test_an_empty_queue_tells_of_lost_messages(service: Settings, database: Database) -> None:
    """Long before a job that merely waits behind others would be announced again."""
    patient = service.model_copy(update={"resend_seconds": 1000})
    celery = make_celery(service)
    assert empty_queues(celery, service) == ["gpu", "cpu"]
    with database.write() as session:
        job_id = submit(session, patient, ATTRIBUTION, {}).id
    relay(database, celery)
    assert empty_queues(celery, service) == ["cpu"]
    reap(database, service, ["cpu"])
    reap(database, patient, ["gpu"])
    assert waiting(database) == [], "a worker may have taken the message just now"
    with database.write() as session:
        session.execute(update(Job).values(due_at=now() - timedelta(seconds=1001)))
    reap(database, patient, ["cpu"])
    assert waiting(database) == []
    for _ in range(2):
        reap(database, patient, ["gpu"])
        assert [message.job_id for message in waiting(database)] == [job_id]


def test_a_broker_that_is_away_is_not_an_empty_one(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, broker_url="redis://127.0.0.1:1/0")
    assert empty_queues(make_celery(settings), settings) == []


def test_a_message_in_a_file_appears_whole(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    celery, count = make_celery(settings), 300
    sending = threading.Thread(
        target=lambda: [celery.send_task(TASKS["gpu"]) for _ in range(count)]
    )
    sending.start()
    received = 0
    with make_celery(settings).connection() as connection:
        channel = connection.channel()
        more = True
        while more:
            unfinished = sending.is_alive()
            try:
                channel._get(settings.gpu_queue)
                received += 1
            except Empty:
                more = unfinished
    assert received == count
