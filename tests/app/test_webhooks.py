"""Webhooks over HTTP: who is told of what, and with which secret."""

from __future__ import annotations

import io
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from time import sleep
from typing import Any

import pytest
from cryptography.fernet import Fernet
from fastapi.testclient import TestClient
from PIL import Image
from pydantic import ValidationError
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.access.keys import ensure_tenant
from app.config import Settings
from app.database.engine import Database
from app.database.tables import (
    IndexVersion,
    Job,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookSecret,
    now,
)
from app.jobs.cancellation import cancel
from app.jobs.claims import Claim, claim, fail, retry_or_fail, succeed
from app.jobs.index_builds import mark_ready
from app.jobs.kinds import INDEX_SHARD
from app.jobs.recovery import expire_overdue, recover_expired
from app.main import create_app
from app.problems import problem_body
from app.webhooks.endpoints import create
from app.webhooks.event_types import EVENT_TYPES
from app.webhooks.schemas import WebhookIn
from app.webhooks.secrets import SecretUnreadableError, renew, signing

URL = "https://example.org/hook?token=t0ken"
PROBLEM = problem_body(500, "job-failed", "It failed")


def register(http: TestClient, **fields: Any) -> dict[str, Any]:
    made = http.post("/v1/webhooks", json={"url": URL, **fields})
    assert made.status_code == 201, made.text
    return dict(made.json())


def ask(http: TestClient, **fields: Any) -> str:
    asked = http.post("/v1/attributions", json={"prompt": "a cat", **fields})
    assert asked.status_code == 202, asked.text
    return str(asked.json()["id"])


def told(database: Database) -> list[tuple[str, str, str | None]]:
    """Event, subject and URL of every delivery."""
    with database.read() as session:
        rows = session.scalars(select(WebhookDelivery).order_by(WebhookDelivery.id))
        return [(row.event, row.subject_id, row.url) for row in rows]


def take(database: Database, settings: Settings, job_id: str) -> Claim:
    with database.write() as session:
        held = claim(session, settings, job_id)
    assert held is not None
    return held


def test_an_endpoint_is_made_shown_changed_and_forgotten(http: TestClient) -> None:
    made = http.post("/v1/webhooks", json={"url": URL, "events": ["index.ready"]})
    assert (made.status_code, made.headers["Cache-Control"]) == (201, "no-store")
    place = made.headers["Location"]
    shown = http.get(place).json()
    assert shown == {name: value for name, value in made.json().items() if name != "secret"}
    assert made.json()["secret"].startswith("whsec_")
    assert (shown["events"], shown["disabled_at"]) == (["index.ready"], None)

    disabled = http.patch(place, json={"enabled": False, "description": "old"}).json()
    assert disabled["disabled_because"] == "asked"
    assert (disabled["description"], disabled["url"]) == ("old", URL)
    assert http.post(f"{place}/test").json()["type"] == "urn:headwater:problem:webhook-disabled"
    changed = {"enabled": True, "events": ["index.failed", "index.failed"]}
    enabled = http.patch(place, json=changed).json()
    assert (enabled["disabled_at"], enabled["events"]) == (None, ["index.failed"])

    other = register(http)
    assert other["events"] == sorted(EVENT_TYPES)
    first = http.get("/v1/webhooks", params={"limit": 1}).json()
    assert [item["id"] for item in first["items"]] == [other["id"]]
    rest = http.get("/v1/webhooks", params={"cursor": first["next_cursor"]}).json()
    assert [item["id"] for item in rest["items"]] == [shown["id"]]
    http.post(f"{place}/test")
    assert http.delete(place).status_code == 204
    assert http.get(place).status_code == http.delete(place).status_code == 404
    assert http.get("/v1/webhooks/deliveries").json()["items"] == []


REFUSED = {
    **{
        f"https://{host}/": "not a public one"
        for host in (
            *("127.0.0.1", "10.0.0.1", "169.254.169.254", "0.0.0.0", "[::1]", "[fe80::1]"),
            *("[::ffff:10.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::a00:1]"),
        )
    },
    "http://example.org/": "only https",
    "ftp://example.org/": "only https",
    "example.org": "only https",
    "https://user:secret@example.org/": "user or password",
    "https://": "no URL",
    "https://exa mple.org/": "no URL",
    "https://example.org:99999/": "no URL",
}


@pytest.mark.usefixtures("index_id")
def test_where_no_message_may_go_is_refused(
    http: TestClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the door, in every place that takes a URL; no name is looked up, no socket opened."""
    place = f"/v1/webhooks/{register(http)['id']}"
    http.post("/v1/webhooks/secret")
    monkeypatch.setattr(socket, "getaddrinfo", None)
    for url, reason in REFUSED.items():
        for refused in (
            http.post("/v1/webhooks", json={"url": url}),
            http.patch(place, json={"url": url}),
            http.post("/v1/attributions", json={"prompt": "a cat", "webhook_url": url}),
        ):
            assert refused.status_code == 422, url
            assert refused.headers["content-type"] == "application/problem+json"
            assert reason in refused.json()["detail"], url
    with database.read() as session:
        assert session.scalars(select(WebhookEndpoint.url)).all() == [URL]
        assert session.scalars(select(Job.id).where(Job.kind == "attribution")).all() == []


def test_what_is_no_endpoint_is_refused(http: TestClient) -> None:
    bodies: tuple[dict[str, Any], ...] = (
        {},
        {"url": URL, "events": []},
        {"url": URL, "events": ["webhook.test"]},
        {"url": URL, "secret": "whsec_mine"},
        {"url": "https://example.org/" + "x" * 2000},
    )
    for body in bodies:
        assert http.post("/v1/webhooks", json=body).status_code == 422, body
    assert http.get("/v1/webhooks").json()["items"] == []


def test_of_many_requests_at_once_as_many_as_allowed_make_an_endpoint(
    service: Settings, http: TestClient
) -> None:
    with TestClient(create_app(service.model_copy(update={"webhooks_per_tenant": 3}))) as few:

        def make(_: int) -> int:
            return few.post("/v1/webhooks", json={"url": URL}).status_code

        with ThreadPoolExecutor(8) as pool:
            statuses = sorted(pool.map(make, range(8)))
    assert statuses == [201] * 3 + [409] * 5
    assert len(http.get("/v1/webhooks").json()["items"]) == 3


def end_by_success(database: Database, settings: Settings, job_id: str) -> None:
    held = take(database, settings, job_id)
    with database.write() as session:
        succeed(session, held, {"contributors": []})


def end_by_bad_input(database: Database, settings: Settings, job_id: str) -> None:
    held = take(database, settings, job_id)
    with database.write() as session:
        fail(session, held, PROBLEM)


def end_by_errors(database: Database, settings: Settings, job_id: str) -> None:
    for _ in range(settings.max_attempts):
        held = take(database, settings, job_id)
        with database.write() as session:
            retry_or_fail(session, settings, held, PROBLEM)


def end_by_dead_workers(database: Database, settings: Settings, job_id: str) -> None:
    for _ in range(settings.max_attempts):
        take(database, settings, job_id)
        with database.write() as session:
            past = now() - timedelta(seconds=1)
            session.execute(update(Job).where(Job.id == job_id).values(lease_until=past))
            assert recover_expired(session, settings) == 1


def end_by_expiry(database: Database, settings: Settings, job_id: str) -> None:
    with database.write() as session:
        past = now() - timedelta(seconds=1)
        session.execute(update(Job).where(Job.id == job_id).values(expires_at=past))
    with database.write() as session:
        assert expire_overdue(session) == 1


@pytest.mark.usefixtures("index_id")
@pytest.mark.parametrize(
    ("end", "event"),
    [
        (end_by_success, "attribution.succeeded"),
        (end_by_bad_input, "attribution.failed"),
        (end_by_errors, "attribution.failed"),
        (end_by_dead_workers, "attribution.failed"),
        (end_by_expiry, "attribution.expired"),
    ],
)
def test_every_end_is_told_once(
    http: TestClient,
    database: Database,
    service: Settings,
    end: Callable[[Database, Settings, str], None],
    event: str,
) -> None:
    """To who listens to it, and to the question's own URL; not before the end."""
    http.post("/v1/webhooks/secret")
    register(http, events=[event])
    register(http, events=[other for other in EVENT_TYPES if other != event])
    http.patch(f"/v1/webhooks/{register(http)['id']}", json={"enabled": False})
    asked = ask(http, webhook_url=URL)
    assert told(database) == []
    end(database, service, asked)
    assert sorted(told(database), key=str) == [(event, asked, URL), (event, asked, None)]


@pytest.mark.usefixtures("index_id")
def test_a_cancellation_is_told_and_a_deletion_is_not(http: TestClient, database: Database) -> None:
    http.post("/v1/webhooks/secret")
    register(http)
    canceled, deleted, both = (ask(http, webhook_url=URL) for _ in range(3))
    for asked in (canceled, both):
        http.post(f"/v1/attributions/{asked}/cancel")
    for asked in (deleted, both):
        assert http.delete(f"/v1/attributions/{asked}").status_code == 204
    event = "attribution.canceled"
    assert sorted(told(database), key=str) == [(event, canceled, URL), (event, canceled, None)]
    with database.read() as session:
        assert session.get_one(Job, deleted).webhook_url is None


@pytest.mark.usefixtures("index_id")
def test_what_is_rolled_back_is_not_told(
    http: TestClient, database: Database, service: Settings
) -> None:
    register(http)
    held = take(database, service, ask(http))

    def crash() -> None:
        with database.write() as session:
            succeed(session, held, {})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        crash()
    assert told(database) == []


def again_being_built(session: Session, index_id: str) -> None:
    index = session.get_one(IndexVersion, index_id)
    index.active, index.state = False, "building"
    session.flush()


def test_an_index_is_told_of(
    http: TestClient, database: Database, service: Settings, index_id: str
) -> None:
    """Once, however many of its shards fail."""
    register(http)
    with database.write() as session:
        again_being_built(session, index_id)
        mark_ready(session, index_id, "digest")
    wanted = {"model": "tiny", "dataset": "pictures", "method": "clip"}
    failing = http.post("/v1/indexes", json=wanted).json()["id"]
    with database.read() as session:
        shards = select(Job.id).where(Job.index_id == failing, Job.kind == INDEX_SHARD)
        (shard,) = session.scalars(shards)
    end_by_bad_input(database, service, shard)
    assert told(database) == [("index.ready", index_id, None), ("index.failed", failing, None)]


def test_other_tenants_are_not_told(
    http: TestClient, database: Database, service: Settings, index_id: str
) -> None:
    ensure_tenant(database, "bob")
    with database.of_tenant("bob").write() as session:
        create(session, service, "bob", WebhookIn(url="https://bob.example/"))
    http.post(f"/v1/attributions/{ask(http)}/cancel")
    with database.write() as session:
        again_being_built(session, index_id)
        mark_ready(session, index_id, "digest")
    assert told(database) == []


@pytest.mark.usefixtures("index_id")
def test_an_endpoint_deleted_meanwhile_fails_nothing(
    http: TestClient, database: Database, service: Settings
) -> None:
    """Whichever of the two comes first: what ends, ends."""
    asked = [ask(http), ask(http)]
    endpoints = [register(http)["id"], register(http)["id"]]
    with ThreadPoolExecutor() as pool:
        with database.write() as session:
            session.delete(session.get_one(WebhookEndpoint, endpoints[0]))
            session.flush()
            ending = pool.submit(http.post, f"/v1/attributions/{asked[0]}/cancel")
            sleep(0.3)
        assert ending.result().status_code == 200
        assert [subject for _, subject, _ in told(database)] == [asked[0]]
        with database.write() as session:
            assert cancel(session, asked[1])
            deleting = pool.submit(http.delete, f"/v1/webhooks/{endpoints[1]}")
            sleep(0.3)
        assert deleting.result().status_code == 204
    assert told(database) == []


@pytest.mark.usefixtures("index_id")
def test_a_questions_own_url_needs_a_secret(http: TestClient, database: Database) -> None:
    content = io.BytesIO()
    Image.new("RGB", (8, 8), "teal").save(content, "PNG")

    def upload() -> Any:
        files, data = {"image": content.getvalue()}, {"webhook_url": URL}
        return http.post("/v1/attributions", files=files, data=data)

    refused = upload()
    assert (refused.status_code, refused.json()["type"]) == (
        409,
        "urn:headwater:problem:webhook-secret-missing",
    )
    assert http.get("/v1/webhooks/secret").status_code == 404
    made = http.post("/v1/webhooks/secret")
    assert (made.status_code, made.headers["Cache-Control"]) == (201, "no-store")
    assert made.json()["secret"].startswith("whsec_")
    assert http.get("/v1/webhooks/secret").json() == {"previous_until": None}

    asked = upload()
    assert asked.status_code == 202, asked.text
    assert "t0ken" not in asked.text, "it is no part of the question"
    http.post(f"/v1/attributions/{asked.json()['id']}/cancel")
    shown = http.get("/v1/webhooks/deliveries", params={"subject": asked.json()["id"]}).json()
    assert [(item["webhook"], item["status"]) for item in shown["items"]] == [(None, "pending")]
    assert told(database) == [("attribution.canceled", asked.json()["id"], URL)]


def test_one_tenant_has_one_secret(http: TestClient, database: Database) -> None:
    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(lambda _: http.post("/v1/webhooks/secret"), range(6)))
    assert [answer.status_code for answer in made] == [201] * 6
    with database.read() as session:
        row = session.scalars(select(WebhookSecret)).one()
    assert row.secret in {answer.json()["secret"] for answer in made}
    assert row.previous_secret in {answer.json()["secret"] for answer in made}


def test_a_new_secret_is_shown_once_and_the_old_one_signs_for_a_day(
    http: TestClient, database: Database
) -> None:
    made = register(http)
    place = f"/v1/webhooks/{made['id']}"
    renewed = http.post(f"{place}/secret")
    assert (renewed.status_code, renewed.headers["Cache-Control"]) == (201, "no-store")
    for secret in (made["secret"], renewed.json()["secret"]):
        assert secret not in http.get(place).text + http.get("/v1/webhooks").text
    with database.write() as session:
        row = session.get_one(WebhookEndpoint, made["id"])
        assert signing(row, []) == [renewed.json()["secret"], made["secret"]]
        row.previous_until = now() - timedelta(seconds=1)
        assert signing(row, []) == [renewed.json()["secret"]]


@pytest.fixture
def sealing(http: TestClient) -> Iterator[TestClient]:
    """The same installation with a key of its operator's."""
    settings: Settings = http.app.state.settings  # type: ignore[attr-defined]
    keys = [Fernet.generate_key().decode()]
    with TestClient(create_app(settings.model_copy(update={"secret_keys": keys}))) as client:
        yield client


def test_secrets_are_encrypted_where_the_operator_has_a_key(
    http: TestClient, sealing: TestClient, database: Database
) -> None:
    (key,) = sealing.app.state.settings.secret_keys  # type: ignore[attr-defined]
    earlier = register(http)
    sealing.post(f"/v1/webhooks/{earlier['id']}/secret")
    made = register(sealing)
    with database.read() as session:
        row = session.get_one(WebhookEndpoint, made["id"])
        mixed = session.get_one(WebhookEndpoint, earlier["id"])
    assert made["secret"].removeprefix("whsec_") not in str(vars(row))
    newer = Fernet.generate_key().decode()
    assert signing(row, [newer, key]) == [made["secret"]]
    assert signing(mixed, [key])[1] == earlier["secret"]
    for keys in ([], [newer]):
        with pytest.raises(SecretUnreadableError):
            signing(row, keys)
    assert signing(mixed, [key])[0] != renew(mixed, [newer])


def test_a_wrong_key_is_refused_and_not_shown() -> None:
    with pytest.raises(ValidationError, match="32 url-safe base64-encoded bytes") as refused:
        Settings(secret_keys=["not-a-key"])
    assert "not-a-key" not in str(refused.value)
    assert Fernet.generate_key().decode() not in repr(Settings(secret_keys=[]))
    key = Fernet.generate_key().decode()
    assert key not in repr(Settings(secret_keys=[key]))


def test_deliveries_are_listed_by_endpoint_and_status(http: TestClient, database: Database) -> None:
    one, two = register(http)["id"], register(http)["id"]
    first = http.post(f"/v1/webhooks/{one}/test")
    assert first.status_code == 202
    made = [first.json(), *(http.post(f"/v1/webhooks/{one}/test").json() for _ in range(2))]
    http.post(f"/v1/webhooks/{two}/test")
    with database.write() as session:
        session.get_one(WebhookDelivery, made[0]["id"]).status = "failed"
    place = f"/v1/webhooks/{one}/deliveries"
    page = http.get(place, params={"limit": 2}).json()
    assert [item["id"] for item in page["items"]] == [made[2]["id"], made[1]["id"]]
    rest = http.get(place, params={"cursor": page["next_cursor"]}).json()
    assert [item["id"] for item in rest["items"]] == [made[0]["id"]]
    failed = http.get(place, params={"status": "failed"}).json()["items"]
    assert [item["id"] for item in failed] == [made[0]["id"]]
    assert len(http.get("/v1/webhooks/deliveries").json()["items"]) == 4
    assert http.get(first.headers["Location"]).json() == made[0] | {"status": "failed"}
    assert set(made[0]) == {
        *("id", "webhook", "event", "subject", "status", "attempts", "response_status", "error"),
        *("created_at", "attempted_at", "ended_at"),
    }
    again = http.post(f"/v1/webhooks/deliveries/{made[0]['id']}/redeliver")
    assert (again.status_code, again.json()["status"]) == (202, "pending")
    http.patch(f"/v1/webhooks/{one}", json={"enabled": False})
    refused = http.post(f"/v1/webhooks/deliveries/{made[0]['id']}/redeliver")
    assert refused.status_code == 409
