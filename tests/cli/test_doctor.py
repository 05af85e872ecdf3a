"""What the doctor finds in installations that are ill, each in its own way."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from signing_identity import Identity
from typer.testing import CliRunner

from app.config import Settings
from app.database.engine import Database
from app.database.migrate import downgrade, upgrade
from app.database.tables import Model, OutboxMessage, now
from app.heartbeats import PROGRAMS, beat
from app.jobs.kinds import ATTRIBUTION
from app.jobs.submission import submit
from cli.doctor import examine
from cli.main import app


def found(settings: Settings, **changed: Any) -> dict[str, tuple[str, str]]:
    installation = settings.model_copy(update=changed)
    return {finding.what: (finding.state, finding.told) for finding in examine(installation)}


def test_programs_messages_and_weights(
    service: Settings, database: Database, tmp_path: Path
) -> None:
    service.home.mkdir(exist_ok=True)
    assert found(service)["programs"][1] == "nothing was heard lately of: " + ", ".join(PROGRAMS)
    for program in PROGRAMS:
        beat(database, program)
    well = found(service)
    assert {state for state, _ in well.values()} == {"ok"}, well
    with database.write() as session:
        submit(session, service, ATTRIBUTION, {})
        session.query(OutboxMessage).update({"due_at": now() - timedelta(minutes=5)})
        ways = {"directory": str(tmp_path), "clip_directory": str(tmp_path)}
        named = {"id": "mdl_1", "name": "lost", "pipeline_class": "DDPMPipeline"}
        session.add(Model(**named, **ways, digest="d", clip_digest="c"))
    ill = found(service)
    assert ill["outbox"] == ("warning", "1 messages are overdue: are relay and broker up?")
    assert ill["model lost"][0] == "failure"
    lost = tmp_path / "lost"
    assert found(service, model_roots=[lost])["folders"] == ("failure", f"cannot be read: {lost}")


def test_a_database_of_another_version(service: Settings, database: Database) -> None:
    downgrade(database, "0008")
    try:
        told = found(service)["database"]
    finally:
        upgrade(database)
    assert told == ("failure", "its tables are another version's: headwater migrate")


def test_looking_makes_no_database(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert found(settings)["database"][0] == "failure"
    assert not (tmp_path / "headwater.db").exists()


@pytest.mark.parametrize("url", ["foo://x", "redis://127.0.0.1:1/0", "redis://x:y:z"])
def test_a_broker_that_cannot_be_used(tmp_path: Path, url: str) -> None:
    state, told = found(Settings(home=tmp_path, broker_url=url))["broker"]
    assert (state, "HEADWATER_BROKER_URL" in told) == ("failure", True)


def test_keys_that_cannot_sign(tmp_path: Path, identity: Identity) -> None:
    certificate, right = identity.write(tmp_path)
    settings = Settings(home=tmp_path, c2pa_certificate=certificate)
    other, locked, broken = (tmp_path / name for name in ("other", "locked", "broken"))
    key = ec.generate_private_key(ec.SECP256R1())
    other.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    secret = BestAvailableEncryption(b"secret")
    locked.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret))
    broken.write_text("no key")
    assert found(settings, c2pa_private_key=right)["private key"][0] == "ok"
    for path, why in (
        (None, "not readable"),
        (tmp_path / "none", "not readable"),
        (other, "another one"),
        (locked, "without a password"),
        (broken, "no PEM key"),
    ):
        state, told = found(settings, c2pa_private_key=path)["private key"]
        assert (state, why in told) == ("failure", True), told
    assert found(settings, c2pa_certificate=broken)["certificate"][0] == "failure"


def test_the_exit_code_and_one_line_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_HOME", str(tmp_path))
    finished = CliRunner().invoke(app, ["doctor"])
    assert finished.exit_code == 1
    assert "failure  database: it has not been made yet: headwater serve\n" in finished.output
