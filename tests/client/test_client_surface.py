"""What the client is made of, without a server: its reach, its types, and what it needs."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import headwater_client
from headwater_client import AsyncClient, Client, models
from headwater_client.operation import Resource

ROOT = Path(__file__).parent.parent.parent
OPENAPI = json.loads((ROOT / "tests" / "app" / "openapi.json").read_text())
PACKAGE = Path(headwater_client.__file__).parent

NOT_COVERED = {
    ("GET", "/metrics"): "Prometheus reads it, in its own format",
    ("GET", "/schemas/training-attribution/1"): "for whoever checks C2PA manifests, not for askers",
}
MODELS = {
    "AttributionOut": models.Attribution,
    "AttributionUrls": models.AttributionUrls,
    "ApiKeyOut": models.ApiKey,
    "CataloguedSample": models.CataloguedSample,
    "Contributor": models.Contributor,
    "DatasetOut": models.Dataset,
    "DeliveryOut": models.Delivery,
    "EvidenceOut": models.Evidence,
    "IndexOut": models.Index,
    "IndexUrls": models.IndexUrls,
    "ModelOut": models.DiffusionModel,
    "NewApiKey": models.NewApiKey,
    "NewSecret": models.NewSecret,
    "NewWebhook": models.NewWebhook,
    "ProblemDetails": models.Problem,
    "Progress": models.Progress,
    "RefusedOut": models.Refused,
    "SampleOut": models.Sample,
    "SecretOut": models.SigningSecret,
    "TakedownOut": models.Takedown,
    "WebhookOut": models.Webhook,
}


def test_every_operation_is_covered_or_has_a_reason_not_to_be() -> None:
    offered = {
        (method.upper(), path)
        for path, operations in OPENAPI["paths"].items()
        for method in operations
    }
    with Client() as client:
        resources = [part for part in vars(client).values() if isinstance(part, Resource)]
    covered = {
        (route.method, route.template)
        for resource in resources
        for method in vars(type(resource)).values()
        for route in getattr(method, "routes", ())
    }
    assert covered == offered - set(NOT_COVERED)
    assert set(NOT_COVERED) <= offered


@pytest.mark.parametrize("name", MODELS)
def test_models_have_every_field_that_the_server_sends(name: str) -> None:
    assert set(MODELS[name].model_fields) == set(
        OPENAPI["components"]["schemas"][name]["properties"]
    )


def test_no_model_of_the_server_is_forgotten() -> None:
    inputs = {"In", "Question", "Change", "Report", "Score", "Yardsticks"}
    documents = {"Receipt", "Listed"}  # handed over as they came
    sent = {
        name
        for name in OPENAPI["components"]["schemas"]
        if not name.startswith("Page_") and not any(name.endswith(end) for end in inputs)
    }
    assert sent - documents == set(MODELS)


def test_a_newer_server_says_more() -> None:
    """Fields and states of tomorrow are no errors, and are not lost."""
    said = {
        "id": "atr_1",
        "status": "paused",
        "progress": {"stage": None, "fraction": 0, "eta": 3},
        "request": {},
        "created_at": "2026-11-25T00:00:00Z",
        "urls": dict.fromkeys(models.AttributionUrls.model_fields, "/v1/x"),
        "mood": "sunny",
    }
    attribution = models.Attribution.model_validate(said)
    assert attribution.model_extra == {"mood": "sunny"}
    assert attribution.progress.model_extra == {"eta": 3}
    assert attribution.status == "paused"


def test_both_clients_do_the_same() -> None:
    def surface(client: Client | AsyncClient) -> dict[str, set[str]]:
        return {
            name: {method for method in dir(part) if not method.startswith("_")}
            for name, part in vars(client).items()
            if isinstance(part, Resource)
        }

    assert surface(Client()) == surface(AsyncClient())
    assert len(surface(Client())) == 10


def test_it_needs_nothing_of_the_server() -> None:
    """Neither torch nor the server's rooms are loaded, and what is loaded is declared."""
    program = "import json, sys, headwater_client; print(json.dumps(sorted(sys.modules)))"
    shown = subprocess.run(
        [sys.executable, "-c", program], cwd="/", capture_output=True, text=True, check=True
    )
    loaded = {name.split(".")[0] for name in json.loads(shown.stdout)}
    assert not loaded & {"torch", "numpy", "PIL", "fastapi", "app", "attribution", "workers", "cli"}
    declared = tomllib.loads((PACKAGE.parent.parent / "pyproject.toml").read_text())
    needed = {line.split(">")[0] for line in declared["project"]["dependencies"]}
    assert needed == {"httpx", "pydantic", "standardwebhooks"}
    assert needed <= loaded
    assert (PACKAGE / "py.typed").exists()


def test_the_server_does_without_it() -> None:
    """``headwater`` is installed without the client."""
    rooms = ("attribution", "app", "workers", "cli", "demo", "migrations")
    sources = [path for room in rooms for path in (ROOT / room).rglob("*.py")]
    assert sources
    assert not [path for path in sources if "headwater_client" in path.read_text()]


TYPED = """
from headwater_client import AsyncClient, Client
from headwater_client.models import Attribution, Event, Sample

def blocking(client: Client) -> None:
    asked: Attribution = client.attributions.ask_about_image("a.png", caption="a", top_k=3)
    ended: Attribution = client.attributions.wait(asked, timeout=3)
    events: list[Event] = list(client.attributions.events(ended))
    samples: list[Sample] = list(client.datasets.samples("art"))

async def awaited(client: AsyncClient) -> None:
    asked: Attribution = await client.attributions.ask_about_prompt("a cat", seed=1)
    events: list[Event] = [event async for event in client.attributions.events(asked.id)]
"""
WRONG = {
    'client.attributions.ask_about_image("a.png", top_k="3")': 'expected "int"',
    "client.attributions.ask_about_image()": "Too few arguments",
    'client.attributions.ask_about_prompt("a", colour=1)': "Unexpected keyword argument",
    'client.attributions.get("atr_1").colour': 'has no attribute "colour"',
    'client.attributions.wait("atr_1", timeout="long")': 'expected "float | None"',
    "client.attributions.delete(3)": "incompatible type",
}


def check(program: Path) -> str:
    """What mypy says of a user's program."""
    command = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--config-file="]
    found = subprocess.run(
        [*command, str(program)], capture_output=True, text=True, cwd=PACKAGE.parent, check=False
    )
    return found.stdout


def test_users_get_types(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    wrong = "".join(f"    {line}\n" for line in WRONG)
    forgotten = (
        'async def forgets(client: AsyncClient) -> None:\n    client.attributions.get("a")\n'
    )
    program.write_text(f"{TYPED}\ndef wrong(client: Client) -> None:\n{wrong}\n{forgotten}")
    first = program.read_text().splitlines().index("def wrong(client: Client) -> None:") + 2
    said = check(program).splitlines()
    errors = {int(line.split(":")[1]): line for line in said if ": error: " in line}
    for number, expected in enumerate(WRONG.values(), first):
        assert expected in errors.pop(number)
    (left,) = errors.values()
    assert "must be used" in left, "a coroutine that nobody awaits"


def test_errors_survive_other_processes() -> None:
    for error in (
        headwater_client.HeadwaterError(models.Problem(title="Full", status=503), 5.0),
        headwater_client.JobFailedError(models.Problem(title="Broken"), "atr_1", "failed"),
    ):
        again: Any = pickle.loads(pickle.dumps(error))
        assert (str(again), vars(again)) == (str(error), vars(error))
