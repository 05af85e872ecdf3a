"""Which programs of the installation are alive: a row each, written again and again."""

from __future__ import annotations

import logging
import os
import socket
import threading
from datetime import timedelta
from typing import Literal

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.config import Settings
from app.database.engine import Database
from app.database.tables import Heartbeat, now

Program = Literal["gpu worker", "cpu worker", "relay"]
PROGRAMS: tuple[Program, ...] = ("gpu worker", "cpu worker", "relay")
MISSED = 4  # beats after which a program is called gone

logger = logging.getLogger(__name__)


def beat(database: Database, program: Program) -> None:
    """Say that a program is alive."""
    whose = f"{_machine()}{os.getpid()}"
    with database.write() as session:
        session.merge(Heartbeat(program=program, whose=whose, at=now()))


def start(settings: Settings, program: Program) -> None:
    """Beat from a thread, for as long as this process lives.

    Over a connection of its own: worker processes that are forked later must not share it.
    """
    database = Database(settings.database_url)

    def go_on() -> None:
        ended = threading.Event()
        while True:
            try:
                beat(database, program)
            except SQLAlchemyError:
                logger.warning("the heartbeat was not written")
            ended.wait(settings.heartbeat_seconds)

    threading.Thread(target=go_on, name="heartbeat", daemon=True).start()


def missing(session: Session, settings: Settings) -> list[Program]:
    """The programs of which none has been heard lately."""
    alive = set(session.scalars(select(Heartbeat.program).where(_lately(settings))))
    return [program for program in PROGRAMS if program not in alive]


def heard_here(session: Session, settings: Settings, program: Program) -> bool:
    """Whether one on this machine was: in a container, the container's own."""
    mine = Heartbeat.whose.startswith(_machine(), autoescape=True)
    heard = select(Heartbeat.at).where(Heartbeat.program == program, mine, _lately(settings))
    return session.scalars(heard.limit(1)).first() is not None


def _lately(settings: Settings) -> ColumnElement[bool]:
    return Heartbeat.at > now() - timedelta(seconds=MISSED * settings.heartbeat_seconds)


def _machine() -> str:
    return f"{socket.gethostname()}:"


def forget_old(session: Session, settings: Settings) -> None:
    """Delete the rows of processes that ended long ago."""
    before = now() - timedelta(seconds=100 * settings.heartbeat_seconds)
    session.execute(delete(Heartbeat).where(Heartbeat.at < before))
