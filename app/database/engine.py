"""Connections: SQLite and PostgreSQL behind the same two kinds of transaction."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import Connection, create_engine, event, make_url
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.orm import ORMExecuteState, Session, with_loader_criteria
from sqlalchemy.pool import ConnectionPoolEntry

from app.database.tables import Owned

BUSY_SECONDS = 30
RESTED_SECONDS = 1.0


class Database:
    """Opens transactions; one for each process, because connections do not survive a fork."""

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite":
            Path(parsed.database or "").parent.mkdir(parents=True, exist_ok=True)
            self.engine = create_engine(
                parsed, connect_args={"timeout": BUSY_SECONDS}, hide_parameters=True
            )
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        else:
            self.engine = create_engine(
                parsed,
                connect_args={"connect_timeout": 5},
                hide_parameters=True,  # an error's text must not hold what somebody sent
            )
            event.listen(self.engine, "checkin", _remember_use)
            event.listen(self.engine, "checkout", _try_after_a_rest)
        # On SQLite a transaction shows one state to all its queries.  On PostgreSQL, under READ
        # COMMITTED, it does not anyway: there BEGIN and ROLLBACK would only cost two round trips.
        self._reading = (
            self.engine.execution_options(sqlite_begin="DEFERRED")
            if parsed.get_backend_name() == "sqlite"
            else self.engine.execution_options(isolation_level="AUTOCOMMIT")
        )

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session for looking; nothing is written."""
        with Session(self._reading, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """All or nothing: committed at the end, rolled back when the block raises."""
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    def of_tenant(self, tenant: str) -> TenantDatabase:
        """The same database, as one tenant sees it."""
        return TenantDatabase(self, tenant)

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()


class TenantDatabase:
    """Sessions in which other tenants' rows are not: whatever is selected, changed or deleted.

    What is added belongs to the tenant.  Rows without an owner of their own (samples, evidence)
    are reached through one that has.
    """

    def __init__(self, database: Database, tenant: str) -> None:
        self.database, self.tenant = database, tenant

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session for looking; nothing is written."""
        with self.database.read() as session:
            yield self._restricted(session)

    @contextmanager
    def write(self) -> Iterator[Session]:
        """All or nothing: committed at the end, rolled back when the block raises."""
        with self.database.write() as session:
            yield self._restricted(session)

    def _restricted(self, session: Session) -> Session:
        event.listen(session, "do_orm_execute", self._only_own)
        event.listen(session, "before_flush", self._own)
        return session

    def _only_own(self, state: ORMExecuteState) -> None:
        tenant = self.tenant
        if state.is_select or state.is_update or state.is_delete:
            state.statement = state.statement.options(
                with_loader_criteria(
                    Owned, lambda cls: cls.tenant_id == tenant, include_aliases=True
                )
            )

    def _own(self, session: Session, context: object, instances: object) -> None:
        for added in session.new:
            if isinstance(added, Owned):
                added.tenant_id = self.tenant


def _remember_use(_: object, record: ConnectionPoolEntry) -> None:
    record.info["used"] = time.monotonic()


def _try_after_a_rest(connection: Any, record: ConnectionPoolEntry, _: object) -> None:
    """A connection may have died while nobody used it; asking costs a round trip each time.

    One that dies within a moment of its use fails the request or the job that has it, as it would
    in the middle of a query.
    """
    if time.monotonic() - record.info.get("used", time.monotonic()) < RESTED_SECONDS:
        return
    try:
        connection.execute("SELECT 1")
        connection.rollback()
    except psycopg.OperationalError as error:
        raise DisconnectionError from error


def _prepare_sqlite(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # transactions are begun below, not by the driver
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # A deferred transaction that turns to writing fails at once when another one has written
    # since; an immediate one waits for its turn.
    options: Any = connection.get_execution_options()
    connection.exec_driver_sql(f"BEGIN {options.get('sqlite_begin', 'IMMEDIATE')}")
