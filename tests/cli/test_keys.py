"""``headwater keys``: the first key of an installation, made by its operator."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.config import Settings
from app.database.engine import Database
from app.database.tables import Tenant
from app.main import create_app


def headwater(home: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", "keys", *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"HEADWATER_HOME": str(home), "COLUMNS": "160"} | more,
        check=False,
    )


def test_a_key_is_made_used_and_revoked(tmp_path: Path) -> None:
    scopes = ("--scope", "catalogue:read", "--scope", "keys:read")
    made = headwater(tmp_path, "create", "platform", "--tenant", "ada", *scopes, "--days", "30")
    assert made.returncode == 0, made.stderr
    secret, key_id = made.stdout.strip(), made.stderr.split()[0]
    assert "opens catalogue:read, keys:read" in made.stderr
    with TestClient(create_app(Settings(home=tmp_path, access="keys"))) as api:
        key = {"Authorization": f"Bearer {secret}"}
        assert [row["id"] for row in api.get("/v1/api-keys", headers=key).json()["items"]] == [
            key_id
        ]
        listed = headwater(tmp_path, "list", "--tenant", "ada")
        assert key_id in listed.stdout
        assert secret not in listed.stdout
        assert key_id not in headwater(tmp_path, "list").stdout
        assert headwater(tmp_path, "revoke", key_id).returncode == 2  # of another tenant
        assert headwater(tmp_path, "revoke", key_id, "--tenant", "ada").returncode == 0
        assert api.get("/v1/datasets", headers=key).status_code == 401


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("create", "x", "--scope", "everything"), "--scope: everything is none of"),
        (("create", "x", "--tenant", "Ada Ltd"), "--tenant"),
        (("revoke", "key_0"), "API key not found"),
    ],
)
def test_bad_input_is_one_line(arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    finished = headwater(tmp_path, *arguments)
    assert finished.returncode == 2
    assert said in finished.stderr
    assert finished.stderr.strip().count("\n") == 0


def test_a_database_out_of_reach_is_one_line(tmp_path: Path) -> None:
    away = {"HEADWATER_DATABASE_URL": "postgresql+psycopg://127.0.0.1:1/none"}
    finished = headwater(tmp_path, "list", **away)
    assert finished.returncode == 1
    assert finished.stderr.startswith("headwater: the database cannot be reached")
    assert finished.stderr.strip().count("\n") == 0


def test_a_quota_is_kept_and_taken_back(tmp_path: Path) -> None:
    said = headwater(tmp_path, "quota", "--tenant", "ada", "--in-flight", "3")
    assert said.stdout == "ada: in flight 3, per day everybody's\n"
    database = Database(Settings(home=tmp_path).database_url)
    with database.read() as session:
        ada = session.get_one(Tenant, "ada")
        assert (ada.max_in_flight, ada.max_per_day) == (3, None)
    headwater(tmp_path, "quota", "--tenant", "ada")
    with database.read() as session:
        assert session.get_one(Tenant, "ada").max_in_flight is None
    database.close()
