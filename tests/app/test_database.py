"""Migrations on both databases, readiness, and what the API imports."""

from __future__ import annotations

import subprocess
import sys

from alembic import command
from fastapi.testclient import TestClient
from sqlalchemy import inspect

from app.config import Settings
from app.database.engine import Database
from app.database.migrate import alembic_config, is_current, upgrade
from app.main import create_app


def test_upgrade_check_downgrade(service: Settings, database: Database) -> None:
    with database.engine.begin() as connection:
        command.check(alembic_config(connection))
    try:
        with database.engine.begin() as connection:
            command.downgrade(alembic_config(connection), "base")
        assert inspect(database.engine).get_table_names() == ["alembic_version"]
        assert not is_current(database)
        with TestClient(create_app(service)) as http:
            assert http.get("/readyz").status_code == 503
            assert http.get("/livez").status_code == 200
    finally:
        upgrade(database)
    assert is_current(database)
    with TestClient(create_app(service)) as http:
        assert http.get("/readyz").status_code == 200
        assert "/v1/attributions" in http.get("/openapi.json").json()["paths"]


def test_the_api_imports_neither_torch_nor_celery() -> None:
    program = (
        "import sys, app.main; app.main.create_app; "
        "print([name for name in ('torch', 'faiss', 'celery', 'diffusers') if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
