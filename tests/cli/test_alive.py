"""``headwater alive``: a container's health is its own program's, not another container's."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import update
from typer.testing import CliRunner

from app.config import Settings
from app.database.engine import Database
from app.database.tables import Heartbeat, now
from app.heartbeats import beat
from cli.errors import CommandError
from cli.main import app


@pytest.fixture(autouse=True)
def environment(service: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in service.to_environment().items():
        monkeypatch.setenv(name, value)


def alive(program: str) -> tuple[int, str]:
    finished = CliRunner().invoke(app, ["alive", program])
    error = finished.exception
    return finished.exit_code, str(error) if isinstance(error, CommandError) else finished.output


def test_only_what_was_heard_here_lately_is_alive(database: Database) -> None:
    gone = (1, "nothing was heard lately of a gpu worker of this machine")
    assert alive("gpu worker") == gone
    beat(database, "gpu worker")
    assert alive("gpu worker") == (0, "the gpu worker is alive\n")
    assert alive("relay")[0] == 1
    with database.write() as session:
        session.execute(update(Heartbeat).values(whose="another-machine:1"))
    assert alive("gpu worker") == gone
    beat(database, "gpu worker")
    with database.write() as session:
        session.execute(update(Heartbeat).values(at=now() - timedelta(minutes=5)))
    assert alive("gpu worker") == gone


def test_a_program_that_there_is_not() -> None:
    assert alive("fax")[0] == 2


def test_a_database_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    away = "postgresql+psycopg://127.0.0.1:1/none"
    monkeypatch.setenv("HEADWATER_DATABASE_URL", away)
    assert alive("relay") == (1, "the database cannot be read")
