"""docker-compose.yml and the Dockerfile: valid, and about this code."""

from __future__ import annotations

import importlib.util
import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema.validators import validator_for

from app.config import Settings
from app.heartbeats import PROGRAMS
from cli.serve import GRACE_SECONDS

ROOT = Path(__file__).parent.parent
COMPOSE = ROOT / "docker-compose.yml"
GPU = ROOT / "docker" / "gpu.yml"
DOCKERFILE = ROOT / "docker" / "Dockerfile"
PREFIX = "HEADWATER_"


def load(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    return load(COMPOSE)["services"]


@pytest.fixture(scope="module")
def own_services(services: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Those that run this code."""
    return {name: service for name, service in services.items() if "build" in service}


@pytest.mark.parametrize("path", [COMPOSE, GPU], ids=lambda path: path.name)
def test_valid_by_the_compose_specification(path: Path) -> None:
    vendored = resources.files("check_jsonschema") / "builtin_schemas" / "vendor"
    schema = json.loads((vendored / "compose-spec.json").read_text())
    validator_for(schema)(schema).validate(load(path))


def test_services() -> None:
    assert set(load(COMPOSE)["services"]) == {
        "migrate", "api", "worker-gpu", "worker-cpu", "relay", "postgres", "redis"
    }  # fmt: skip
    assert set(load(GPU)["services"]) <= set(load(COMPOSE)["services"])


@pytest.mark.parametrize("path", [COMPOSE, GPU], ids=lambda path: path.name)
def test_every_variable_is_a_setting(path: Path) -> None:
    used = {
        name
        for service in load(path)["services"].values()
        for name in service.get("environment", {})
        if name.startswith(PREFIX)
    }
    assert used
    assert {name.removeprefix(PREFIX).lower() for name in used} <= set(Settings.model_fields)


def test_the_variables_make_settings(
    own_services: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for service in own_services.values():
        for name, value in service["environment"].items():
            chosen = re.sub(r"\$\{\w+:\?[^}]*\}", "secret", value)
            monkeypatch.setenv(name, re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", chosen))
        settings = Settings()
        assert (
            settings.database_url == "postgresql+psycopg://headwater:secret@postgres:5432/headwater"
        )
        assert settings.model_roots == [Path("/models")]


def test_roots_and_home_are_mounted(own_services: dict[str, dict[str, Any]]) -> None:
    for service in own_services.values():
        # The variables of a source have colons of their own.
        targets = {re.sub(r"^(\$\{[^}]*\}|[^:]*):", "", mount) for mount in service["volumes"]}
        assert targets == {"/var/lib/headwater", "/models:ro", "/datasets:ro"}


def test_no_secret_is_written_down(services: dict[str, dict[str, Any]]) -> None:
    assert services["postgres"]["environment"]["POSTGRES_PASSWORD"].startswith("${")
    for service in services.values():
        for value in service.get("environment", {}).values():
            assert not re.search(r"//\w+:(?!\$\{POSTGRES_PASSWORD:\?)[^@/]*@", value)


def test_commands_name_modules_that_exist(own_services: dict[str, dict[str, Any]]) -> None:
    for name, service in own_services.items():
        modules = modules_of(service["command"])
        assert modules, name
        for module in modules:
            assert importlib.util.find_spec(module), f"{name}: {module}"


def modules_of(command: list[str]) -> list[str]:
    """The modules that a command starts, and its own where it is one of ours."""
    match command:
        case ["headwater", *_]:
            return ["cli.main"]
        case ["python", "-m", module, *_]:
            return [module]
        case ["celery", *arguments]:
            own = [each.removeprefix("--app=") for each in arguments if each.startswith("--app=")]
            return ["celery", *own]
    return []


def test_the_images_default_command_is_the_api(services: dict[str, dict[str, Any]]) -> None:
    (command,) = re.findall(r"^CMD (\[.*\])$", DOCKERFILE.read_text(), re.MULTILINE)
    assert json.loads(command) == services["api"]["command"]


def test_every_queue_has_one_kind_of_worker(services: dict[str, dict[str, Any]]) -> None:
    defaults = Settings.model_fields
    for name, field in (("worker-gpu", "gpu_queue"), ("worker-cpu", "cpu_queue")):
        assert f"--queues={defaults[field].default}" in services[name]["command"]


def test_one_process_for_each_gpu(services: dict[str, dict[str, Any]]) -> None:
    assert {"--pool=prefork", "--concurrency=1"} <= set(services["worker-gpu"]["command"])
    (device,) = load(GPU)["services"]["worker-gpu"]["deploy"]["resources"]["reservations"][
        "devices"
    ]
    assert device["count"] == 1
    assert "gpu" in device["capabilities"]


def test_redis_keeps_its_messages(services: dict[str, dict[str, Any]]) -> None:
    command = " ".join(services["redis"]["command"])
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command


def test_services_wait_for_what_they_need(services: dict[str, dict[str, Any]]) -> None:
    for name in ("api", "worker-gpu", "worker-cpu", "relay"):
        awaited = services[name]["depends_on"]
        assert awaited["migrate"]["condition"] == "service_completed_successfully"
    for service in services.values():
        for name, waiting in service.get("depends_on", {}).items():
            if waiting["condition"] == "service_healthy":
                assert "healthcheck" in services[name]


def test_every_program_says_that_it_is_alive(services: dict[str, dict[str, Any]]) -> None:
    beating = {"worker-gpu": "gpu worker", "worker-cpu": "cpu worker", "relay": "relay"}
    assert set(beating.values()) == set(PROGRAMS)
    for name, program in beating.items():
        assert services[name]["healthcheck"]["test"] == ["CMD", "headwater", "alive", program]


def test_programs_get_the_time_that_they_take_to_stop(
    own_services: dict[str, dict[str, Any]],
) -> None:
    for service in own_services.values():
        seconds = int(service["stop_grace_period"].removesuffix("s"))
        assert seconds >= Settings().drain_seconds + GRACE_SECONDS


def test_images_have_a_tag(services: dict[str, dict[str, Any]]) -> None:
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE.read_text(), re.MULTILINE)
    for image in [*bases, *(service["image"] for service in services.values())]:
        assert re.search(r":\d", image), image


def test_the_dockerfile_copies_what_exists() -> None:
    ignored = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().splitlines()
    copied = [
        source
        for line in DOCKERFILE.read_text().splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    ]
    assert {"app", "attribution", "workers", "cli", "migrations"} <= set(copied)
    for source in copied:
        assert (ROOT / source).exists(), source
        assert any(line.startswith(f"!{source}") for line in ignored), source


def test_the_image_does_not_run_as_root() -> None:
    assert re.findall(r"^USER (\S+)", DOCKERFILE.read_text(), re.MULTILINE) == ["headwater"]
