"""Keys open what they say, until they end; a tenant never meets another's things."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from fastapi.testclient import TestClient
from places import Places
from sqlalchemy import select, update

from app.access import keys
from app.access.scopes import SCOPES
from app.config import Settings
from app.database.engine import Database
from app.database.tables import (
    ApiKey,
    Dataset,
    Evidence,
    IndexVersion,
    Job,
    Model,
    StoredImage,
)
from app.jobs.index_builds import finalise_after_last_shard, mark_ready
from app.jobs.kinds import INDEX_FINALISE
from app.main import create_app

PROBLEM = "application/problem+json"


@pytest.fixture
def api(service: Settings, places: Places) -> Iterator[TestClient]:
    """The API of an installation that asks for keys."""
    roots = {
        "dataset_roots": [places.dataset.resolve()],
        "model_roots": [places.model.resolve(), places.clip.resolve()],
        "access": "keys",
    }
    application = create_app(service.model_copy(update=roots))
    with TestClient(application, raise_server_exceptions=False) as client:
        yield client


def bearer(database: Database, tenant: str, *scopes: str) -> dict[str, str]:
    keys.ensure_tenant(database, tenant)
    with database.of_tenant(tenant).write() as session:
        _, secret = keys.create(session, "test", scopes or SCOPES, None)  # type: ignore[arg-type]
    return {"Authorization": f"Bearer {secret}"}


@pytest.fixture
def ada(database: Database) -> dict[str, str]:
    return bearer(database, "ada")


@pytest.fixture
def bob(database: Database) -> dict[str, str]:
    return bearer(database, "bob")


@pytest.fixture
def adas(
    api: TestClient, places: Places, database: Database, ada: dict[str, str]
) -> dict[str, str]:
    """One of everything that Ada can have, by the name of its path parameter."""
    data = api.post(
        "/v1/datasets", json={"name": "pictures", "path": str(places.dataset)}, headers=ada
    )
    paths = {"path": str(places.model), "clip_path": str(places.clip)}
    model = api.post("/v1/models", json={"name": "tiny", **paths}, headers=ada)
    wanted = {"model": "tiny", "dataset": "pictures"}
    index = api.post("/v1/indexes", json=wanted, headers=ada)
    assert index.status_code == 202, index.text
    with database.write() as session:
        mark_ready(session, index.json()["id"], "digest")
    asked = api.post("/v1/attributions", json={"prompt": "a cat"}, headers=ada)
    assert asked.status_code == 202, asked.text
    gone = {"dataset": "pictures", "keys": ["0.png"]}
    takedown = api.post("/v1/takedowns", json=gone, headers=ada)
    assert takedown.status_code == 202, takedown.text
    key = api.get("/v1/api-keys", headers=ada).json()["items"][0]
    webhook = api.post("/v1/webhooks", json={"url": "https://example.org/"}, headers=ada).json()
    told = api.post(f"/v1/webhooks/{webhook['id']}/test", headers=ada)
    assert told.status_code == 202, told.text
    with database.write() as session:
        session.add(StoredImage(digest="0" * 64, width=1, height=1))
        session.flush()
        session.execute(update(Job).values(image_digest="0" * 64))
    return {
        "dataset": data.json()["id"],
        "model": model.json()["id"],
        "index": index.json()["id"],
        "attribution": asked.json()["id"],
        "takedown": takedown.json()["id"],
        "key": key["id"],
        "webhook": webhook["id"],
        "delivery": told.json()["id"],
    }


def routes(api: TestClient) -> Iterator[tuple[str, str]]:
    """Every method and path of the API."""
    for path, methods in api.get("/openapi.json").json()["paths"].items():
        for method in methods:
            yield method.upper(), path


def test_every_route_of_another_tenant_is_not_found(
    api: TestClient, database: Database, adas: dict[str, str], bob: dict[str, str]
) -> None:
    """By id and by name; whatever the method, and whatever the body."""
    names = adas | {"dataset": "pictures", "model": "tiny"}
    tried = 0
    for known in (adas, names):
        for method, path in routes(api):
            parameters = re.findall(r"{(\w+)}", path)
            if not parameters:
                continue
            assert adas.keys() >= set(parameters), f"{path}: give Ada one, that Bob may look for it"
            values = {name: known[name] for name in parameters}
            body = None
            if (method, path) == ("POST", "/v1/models/{model}/evidence"):
                body = {"dataset": "pictures", "report": report()}
            elif (method, path) == ("PATCH", "/v1/webhooks/{webhook}"):
                body = {"enabled": False}
            answer = api.request(method, path.format(**values), headers=bob, json=body)
            assert (answer.status_code, answer.headers["content-type"]) == (404, PROBLEM), path
            tried += 1
    assert tried >= 40
    for listing in (
        *("datasets", "models", "indexes", "attributions", "webhooks", "webhooks/deliveries"),
        *("samples", "contributors", "takedowns"),
    ):
        assert api.get(f"/v1/{listing}", headers=bob).json()["items"] == []
    wanted = {"model": adas["model"], "dataset": adas["dataset"]}
    assert api.post("/v1/indexes", json=wanted, headers=bob).status_code == 404
    for question in ({"model": "tiny"}, {"index": adas["index"]}, {}):
        asked = api.post("/v1/attributions", json={"prompt": "a cat", **question}, headers=bob)
        assert asked.status_code in (404, 409), asked.text
    with database.read() as session:
        assert session.scalars(select(Job.status).where(Job.kind == "attribution")).all() == [
            "queued"
        ]
        assert session.scalars(select(Evidence.id)).all() == []


def report() -> dict[str, object]:
    return {
        **{"date": "2026-11-24", "model_digest": "", "training_keys": "", "training_images": 1},
        **{"subsets": 1, "training_seeds": 1, "protocol": {}, "yardsticks": {}, "results": []},
    }


def test_names_are_each_tenants_own(
    api: TestClient, places: Places, adas: dict[str, str], bob: dict[str, str]
) -> None:
    body = {"name": "pictures", "path": str(places.dataset)}
    made = api.post("/v1/datasets", json=body, headers=bob)
    assert made.status_code == 201
    assert made.json()["id"] != adas["dataset"]
    assert api.get("/v1/datasets/pictures", headers=bob).json()["id"] == made.json()["id"]


def test_what_workers_add_belongs_to_the_indexs_tenant(
    service: Settings, database: Database, adas: dict[str, str]
) -> None:
    with database.write() as session:
        session.execute(update(Job).values(status="succeeded"))
        finalise_after_last_shard(session, service, adas["index"])
    with database.read() as session:
        added = session.scalars(select(Job).where(Job.kind == INDEX_FINALISE)).one()
        assert added.tenant_id == "ada"
        for table in (Dataset, Model, IndexVersion, Job):
            assert set(session.scalars(select(table.tenant_id))) == {"ada"}


def test_every_route_asks_for_a_key(api: TestClient) -> None:
    for method, path in routes(api):
        if not path.startswith("/v1/"):
            continue
        for headers in ({}, {"Authorization": "Bearer hw_guess"}, {"Authorization": "Basic x"}):
            answer = api.request(method, re.sub(r"{\w+}", "x", path), headers=headers)
            assert (answer.status_code, answer.headers["content-type"]) == (401, PROBLEM), path
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    for public in ("/livez", "/schemas/training-attribution/1", "/openapi.json", "/metrics"):
        assert api.get(public).status_code == 200
    assert api.get("/readyz").json()["title"] == "Nothing was heard of some programs lately"


def test_a_key_opens_its_scopes_alone(
    api: TestClient, database: Database, adas: dict[str, str]
) -> None:
    reader = bearer(database, "ada", "attributions:read")
    asked = f"/v1/attributions/{adas['attribution']}"
    assert api.get(asked, headers=reader).status_code == 200
    refused = api.post(f"{asked}/cancel", headers=reader)
    assert (refused.status_code, refused.json()["detail"]) == (403, "it lacks attributions:write")
    assert api.get("/v1/datasets", headers=reader).status_code == 403
    assert api.get("/v1/api-keys", headers=reader).status_code == 403
    assert api.get("/v1/webhooks", headers=reader).status_code == 403
    listener = bearer(database, "ada", "webhooks:read")
    assert api.get("/v1/webhooks", headers=listener).status_code == 200
    refused = api.post("/v1/webhooks/secret", headers=listener)
    assert (refused.status_code, refused.json()["detail"]) == (403, "it lacks webhooks:write")


def test_keys_end(api: TestClient, database: Database, ada: dict[str, str]) -> None:
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    body = {"name": "ci", "scopes": ["catalogue:read"], "expires_at": tomorrow}
    made = api.post("/v1/api-keys", json=body, headers=ada)
    assert (made.status_code, made.headers["Cache-Control"]) == (201, "no-store")
    key = {"Authorization": f"Bearer {made.json()['secret']}"}
    assert api.get("/v1/models", headers=key).status_code == 200
    with database.write() as session:
        past = datetime.now(UTC) - timedelta(seconds=1)
        session.execute(
            update(ApiKey).where(ApiKey.id == made.json()["id"]).values(expires_at=past)
        )
    assert api.get("/v1/models", headers=key).status_code == 401

    lasting = api.post("/v1/api-keys", json=body | {"expires_at": None}, headers=ada).json()
    key = {"Authorization": f"Bearer {lasting['secret']}"}
    for _ in range(2):
        revoked = api.delete(f"/v1/api-keys/{lasting['id']}", headers=ada)
        assert (revoked.status_code, revoked.json()["revoked_at"] is None) == (200, False)
    assert api.get("/v1/models", headers=key).status_code == 401
    listed = api.get("/v1/api-keys", headers=ada).json()["items"]
    assert {row["name"] for row in listed} == {"ci", "test"}


def test_no_key_makes_a_greater_one(api: TestClient, database: Database) -> None:
    small = bearer(database, "ada", "keys:write", "attributions:read")
    body = {"name": "more", "scopes": ["attributions:read", "catalogue:write"]}
    refused = api.post("/v1/api-keys", json=body, headers=small)
    assert (refused.status_code, refused.json()["detail"]) == (403, "it lacks catalogue:write")
    past = {"name": "late", "scopes": ["keys:write"], "expires_at": "2020-01-01T00:00:00Z"}
    assert api.post("/v1/api-keys", json=past, headers=small).status_code == 422
    naive = past | {"expires_at": "2099-01-01T00:00:00"}
    assert api.post("/v1/api-keys", json=naive, headers=small).status_code == 422


def test_secrets_are_not_kept(api: TestClient, database: Database, ada: dict[str, str]) -> None:
    body = {"name": "ci", "scopes": ["catalogue:read"]}
    secret = api.post("/v1/api-keys", json=body, headers=ada).json()["secret"]
    assert secret not in api.get("/v1/api-keys", headers=ada).text
    with database.read() as session:
        for key in session.scalars(select(ApiKey)):
            assert secret.removeprefix("hw_") not in str(vars(key))


def test_an_open_installation_has_one_tenant(http: TestClient, database: Database) -> None:
    """Whatever key is sent: nothing there would check it."""
    for headers in ({}, {"Authorization": "Bearer hw_guess"}):
        assert http.get("/v1/datasets", headers=headers).status_code == 200
    made = http.post("/v1/api-keys", json={"name": "later", "scopes": ["keys:read"]})
    assert made.status_code == 201
    with database.read() as session:
        assert session.scalars(select(ApiKey.tenant_id)).one() == "default"
