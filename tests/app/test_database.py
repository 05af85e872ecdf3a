"""Migrations on both databases, readiness, and what the API imports."""

from __future__ import annotations

import subprocess
import sys
import time

import psycopg
import pytest
from alembic import command
from fastapi.testclient import TestClient
from sqlalchemy import inspect, make_url, select, text, update
from sqlalchemy.exc import IntegrityError

from app.config import Settings
from app.database.engine import RESTED_SECONDS, Database
from app.database.migrate import alembic_config, downgrade, is_current, upgrade
from app.database.tables import Dataset, IndexVersion, Job, Model, OutboxMessage, Sample, Turn
from app.heartbeats import PROGRAMS, beat
from app.jobs.cancellation import cancel
from app.jobs.kinds import ATTRIBUTION, C2PA_SIGN, KINDS
from app.jobs.submission import submit
from app.jobs.turns import claim_next
from app.main import create_app
from app.webhooks.deliveries import submit_deliveries

OWNED = (Dataset, Model, IndexVersion, Job)


def test_upgrade_check_downgrade(service: Settings, database: Database) -> None:
    with database.engine.begin() as connection:
        command.check(alembic_config(connection))
    try:
        downgrade(database, "base")
        assert inspect(database.engine).get_table_names() == ["alembic_version"]
        assert not is_current(database)
        with TestClient(create_app(service)) as http:
            assert http.get("/readyz").status_code == 503
            assert http.get("/livez").status_code == 200
    finally:
        upgrade(database)
    assert is_current(database)
    with TestClient(create_app(service)) as http:
        away = http.get("/readyz")
        assert (away.status_code, away.json()["detail"]) == (503, ", ".join(PROGRAMS))
        for program in PROGRAMS:
            beat(database, program)
        assert http.get("/readyz").status_code == 200
        assert "/v1/attributions" in http.get("/openapi.json").json()["paths"]


def test_rows_survive_the_next_version(service: Settings, database: Database) -> None:
    """What an older release wrote is there after the upgrade, with all that refers to it."""
    downgrade(database, "0002")
    day = "2026-01-01 00:00:00+00:00"
    rows = {
        "datasets": {"id": "ds_1", "name": "d", "path": "/d", "digest": "", "sample_count": 1},
        "samples": {"dataset_id": "ds_1", "key": "a.png"},
        "models": {
            **{"id": "mdl_1", "name": "m", "directory": "/m", "clip_directory": "/c"},
            **{"digest": "", "clip_digest": "", "pipeline_class": "DDPMPipeline"},
        },
        "indexes": {
            **{"id": "idx_1", "model_id": "mdl_1", "dataset_id": "ds_1", "config": "{}"},
            **{"config_digest": "", "shard_size": 1, "state": "ready", "active": True},
            "directory": "indexes/idx_1",
        },
        "jobs": {
            **{"id": "atr_1", "kind": "attribution", "index_id": "idx_1", "status": "succeeded"},
            **{"attempt": 1, "max_attempts": 3, "fraction": 1.0, "request": "{}"},
        },
        "outbox": {"job_id": "atr_1", "kind": "attribution", "failures": 0, "due_at": day},
    }
    try:
        with database.write() as session:
            for table, row in rows.items():
                dated = row if table in ("samples", "outbox") else row | {"created_at": day}
                places = ", ".join(f":{name}" for name in dated)
                session.execute(
                    text(f"INSERT INTO {table} ({', '.join(dated)}) VALUES ({places})"), dated
                )
    finally:
        upgrade(database)
    with database.read() as session:
        assert session.scalars(select(Sample.key)).all() == ["a.png"]
        assert session.scalars(select(OutboxMessage.job_id)).all() == ["atr_1"]
        assert {session.scalars(select(table.tenant_id)).one() for table in OWNED} == {"default"}
    with pytest.raises(IntegrityError), database.write() as session:
        session.execute(update(Job).values(status="lost"))
    with pytest.raises(IntegrityError), database.write() as session:
        session.execute(update(IndexVersion).values(state="building"))
    second = {"id": "idx_2", "config_digest": "other", "active": True, "state": "ready"}
    shared = {"model_id": "mdl_1", "dataset_id": "ds_1", "config": {}, "shard_size": 1}
    other = IndexVersion(**second, **shared, directory="indexes/idx_2")
    with pytest.raises(IntegrityError), database.write() as session:
        session.add(other)
    downgrade(database, "0002")
    with database.read() as session:
        assert session.execute(text("SELECT count(*) FROM samples")).scalar_one() == 1
    upgrade(database)


def test_an_older_release_is_left_no_deliveries(service: Settings, database: Database) -> None:
    """It would announce their jobs for ever; the attribution's own stays."""
    with database.write() as session:
        job = submit(session, service, ATTRIBUTION, {}, webhook_url="https://example.org/")
        cancel(session, job.id)
    with database.write() as session:
        assert submit_deliveries(session, service) == 1
    downgrade(database, "0006")
    try:
        with database.read() as session:
            for table in ("jobs", "outbox"):
                kinds = session.execute(text(f"SELECT kind FROM {table}")).scalars()
                assert set(kinds) == {ATTRIBUTION}
    finally:
        upgrade(database)


def test_jobs_find_their_queues_and_tenants_their_turns(
    service: Settings, database: Database
) -> None:
    """Those of a release in which a job had no queue, and a tenant one turn for all."""
    with database.write() as session:
        asked, signing = (submit(session, service, kind, {}) for kind in (ATTRIBUTION, C2PA_SIGN))
        assert claim_next(session, service, KINDS["gpu"])
    try:
        downgrade(database, "0008")
    finally:
        upgrade(database)
    with database.read() as session:
        queues = select(Job.queue).where(Job.id.in_((asked.id, signing.id))).order_by(Job.kind)
        assert session.scalars(queues).all() == ["gpu", "cpu"]
        assert session.scalars(select(Turn.queue)).all() == ["gpu"]
        assert session.scalars(select(Turn.tenant_id)).all() == ["default"]


def test_the_api_imports_neither_torch_nor_celery() -> None:
    program = (
        "import sys, app.main; app.main.create_app; "
        "print([name for name in ('torch', 'faiss', 'celery', 'diffusers') if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_a_connection_that_died_while_nobody_used_it_is_replaced(service: Settings) -> None:
    """As when PostgreSQL was restarted: the next query finds a new one."""
    if not service.database_url.startswith("postgresql"):
        pytest.skip("SQLite's connections do not die")
    database = Database(service.database_url)
    with database.read() as session:
        first = session.scalar(text("SELECT pg_backend_pid()"))
    with psycopg.connect(
        make_url(service.database_url)
        .set(drivername="postgresql")
        .render_as_string(hide_password=False),
        autocommit=True,
    ) as admin:
        admin.execute("SELECT pg_terminate_backend(%s)", (first,))
    time.sleep(RESTED_SECONDS + 0.1)
    with database.read() as session:
        assert session.scalar(text("SELECT pg_backend_pid()")) != first
    database.close()
