"""The API does what its OpenAPI document says, whatever is sent to it.

The document itself is kept beside this file, so that a change of the contract shows in a diff.
``python tests/app/test_openapi.py`` writes it anew.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from app.config import Settings
from app.main import create_app

SNAPSHOT = Path(__file__).with_name("openapi.json")
UPDATE = "python tests/app/test_openapi.py"
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
EXAMPLES = 8
MAY_BE_UNAVAILABLE = {"/readyz"}  # what it is there to say


def document() -> str:
    """The OpenAPI document as it is kept; without the version, which every release changes."""
    with tempfile.TemporaryDirectory() as home:
        application = create_app(Settings(home=Path(home), database_url="sqlite://"))
    written = application.openapi()
    written["info"]["version"] = "-"
    return json.dumps(written, indent=1, ensure_ascii=False) + "\n"


def test_the_contract_is_the_one_that_is_kept() -> None:
    assert document() == SNAPSHOT.read_text(), f"meant to change it? `{UPDATE}`"


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in json.loads(document())["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_every_operation_is_described() -> None:
    for label, operation in operations():
        assert operation.get("summary"), label
        assert operation.get("tags"), label
        if label.partition(" ")[2].startswith("/v1/"):
            assert "500" in operation["responses"], f"{label} declares no errors"


def test_every_body_has_an_example() -> None:
    schemas = json.loads(document())["components"]["schemas"]
    for label, operation in operations():
        for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
            schema = content["schema"]
            known = schemas.get(schema.get("$ref", "").rpartition("/")[2], schema)
            assert {"example", "examples"} & (content.keys() | known.keys()), (label, media_type)


@pytest.fixture
def application(http: TestClient) -> FastAPI:
    return http.app  # type: ignore[return-value]


def test_no_request_is_answered_otherwise_than_documented(
    http: TestClient, index_id: str, application: FastAPI
) -> None:
    """Half of the requests name things that are there."""
    asked = http.post("/v1/attributions", json={"prompt": "a cat"}).json()["id"]
    http.post(f"/v1/attributions/{asked}/cancel")  # its events end
    known = {
        "attribution": asked,
        "dataset": "pictures",
        "index": index_id,
        "model": "tiny",
        "key": "0.png",
    }
    schema = schemathesis.openapi.from_asgi("/openapi.json", application)
    for found in schema.get_all_operations():
        operation = found.ok()

        @given(case=operation.as_strategy(), real=st.booleans())
        @settings(
            max_examples=EXAMPLES,
            phases=[Phase.explicit, Phase.generate],
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        def answers(case: schemathesis.Case, real: bool) -> None:
            if real:
                for name in case.path_parameters or {}:
                    case.path_parameters[name] = known.get(name, case.path_parameters[name])
            unavailable = operation.path in MAY_BE_UNAVAILABLE  # noqa: B023
            case.call_and_validate(checks=CHECKS[1:] if unavailable else CHECKS)

        answers()


if __name__ == "__main__":
    SNAPSHOT.write_text(document())
    print(f"written: {SNAPSHOT}", file=sys.stderr)
