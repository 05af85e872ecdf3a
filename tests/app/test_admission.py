"""Quotas and back-pressure: exact under races, told with Retry-After, and nothing half done."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from limited_api import Limited
from PIL import Image
from programs import free_port, program, wait_for
from sqlalchemy import func, select, update

from app.access.keys import ensure_tenant
from app.config import Settings
from app.database.engine import Database
from app.database.tables import Job, Tenant, now
from app.jobs.kinds import ATTRIBUTION, WEBHOOK_DELIVERY
from app.jobs.submission import submit


def ask(client: TestClient, priority: str = "interactive", **headers: str) -> Any:
    question = {"prompt": "a cat", "priority": priority}
    return client.post("/v1/attributions", json=question, headers=headers)


def another_tenant_asks(database: Database, settings: Settings) -> None:
    ensure_tenant(database, "bob")
    with database.of_tenant("bob").write() as session:
        submit(session, settings, ATTRIBUTION, {})


def kind_of(refused: Any) -> str:
    """What was refused, as a client is told: by a problem that says when to come back."""
    assert refused.headers["content-type"] == "application/problem+json"
    assert int(refused.headers["Retry-After"]) >= 1
    return str(refused.json()["type"].removeprefix("urn:headwater:problem:"))


def picture() -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (8, 8)).save(content, "PNG")
    return content.getvalue()


def accepted(database: Database) -> int:
    with database.read() as session:
        return session.scalar(select(func.count()).where(Job.kind == ATTRIBUTION)) or 0


@pytest.mark.parametrize("limit", ["max_in_flight", "max_per_day"])
def test_of_many_at_once_exactly_the_quota_is_accepted(
    limited: Limited, database: Database, limit: str
) -> None:
    client = limited(**{limit: 5})
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: ask(client), range(16)))
    assert sorted(answer.status_code for answer in answers) == [202] * 5 + [429] * 11
    assert accepted(database) == 5
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert kind_of(refused) == "quota-exceeded"


@pytest.mark.usefixtures("index_id")
def test_two_servers_together_accept_what_one_would(service: Settings, database: Database) -> None:
    """Real processes on sockets.  Half of the requests repeat one that may be on its way still."""
    settings = service.model_copy(update={"max_in_flight": 5})
    servers = [f"http://127.0.0.1:{free_port()}" for _ in range(2)]

    def is_up(url: str) -> bool:
        try:
            return httpx.get(f"{url}/livez").status_code == 200
        except httpx.TransportError:
            return False

    def send(number: int) -> httpx.Response:
        return httpx.post(
            f"{servers[number % 2]}/v1/attributions",
            json={"prompt": "a cat"},
            headers={"Idempotency-Key": "one"} if number % 4 < 2 else {},
            timeout=60,
        )

    with ExitStack() as running:
        for url in servers:
            host, port = url.removeprefix("http://").split(":")
            running.enter_context(program(settings, "app.server", host, port))
        for url in servers:
            wait_for(partial(is_up, url), "the server")
        with ThreadPoolExecutor(24) as pool:
            answers = list(pool.map(send, range(24)))
    jobs = [answer.json()["id"] for answer in answers if answer.status_code == 202]
    assert {answer.status_code for answer in answers} == {202, 429}
    assert len(set(jobs)) == accepted(database) == 5
    repeated = {answers[number].status_code for number in range(24) if number % 4 < 2}
    assert repeated in ({202}, {429}), "one request was answered both ways"


def test_the_end_of_one_makes_room_for_another(limited: Limited, database: Database) -> None:
    client = limited(max_in_flight=1)
    first = ask(client)
    assert ask(client).status_code == 429
    client.post(f"/v1/attributions/{first.json()['id']}/cancel")
    assert ask(client).status_code == 202


def test_a_day_later_there_is_room_and_deleting_makes_none(
    limited: Limited, database: Database
) -> None:
    client = limited(max_per_day=1)
    first = ask(client)
    client.delete(f"/v1/attributions/{first.json()['id']}")
    refused = ask(client)
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) > 23 * 3600
    with database.write() as session:
        session.execute(update(Job).values(created_at=now() - timedelta(hours=25)))
    assert ask(client).status_code == 202


def test_a_repeated_request_counts_once(limited: Limited, database: Database) -> None:
    client = limited(max_per_day=1)
    again = {"Idempotency-Key": "once"}
    assert [ask(client, **again).status_code for _ in range(3)] == [202, 202, 202]
    assert accepted(database) == 1


@pytest.mark.parametrize("sent", ["prompt", "picture"])
def test_the_last_place_is_taken_once_by_one_request_sent_often(
    limited: Limited, database: Database, sent: str
) -> None:
    client = limited(max_in_flight=1)
    once = {"Idempotency-Key": "once"}
    content = picture()

    def send(_: int) -> Any:
        if sent == "prompt":
            return ask(client, **once)
        return client.post("/v1/attributions", files={"image": content}, headers=once)

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(send, range(12)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert kind_of(ask(client)) == "quota-exceeded"


def test_a_picture_that_is_one_too_many_is_not_decoded(limited: Limited, service: Settings) -> None:
    client = limited(max_in_flight=1)
    ask(client)
    for content in (picture(), b"no picture"):
        refused = client.post("/v1/attributions", files={"image": content})
        assert kind_of(refused) == "quota-exceeded"
    assert not (service.home / "images").exists()


def test_a_tenants_own_limit_wins(limited: Limited, database: Database) -> None:
    client = limited(max_in_flight=1)
    with database.write() as session:
        session.execute(update(Tenant).values(max_in_flight=2))
    assert [ask(client).status_code for _ in range(3)] == [202, 202, 429]
    with database.write() as session:
        session.execute(update(Tenant).values(max_in_flight=0))
    assert ask(client).status_code == 202


def test_a_full_queue_refuses_whoever_filled_it(
    limited: Limited, service: Settings, database: Database
) -> None:
    client = limited(max_queued=2)
    assert ask(client).status_code == 202
    another_tenant_asks(database, service)
    refused = ask(client, priority="batch")
    assert (refused.status_code, kind_of(refused)) == (503, "queue-full")
    assert accepted(database) == 2
    with database.write() as session:
        session.execute(update(Job).where(Job.tenant_id == "bob").values(status="succeeded"))
    assert ask(client).status_code == 202


def test_shards_and_messages_fill_no_queue_of_questions(
    limited: Limited, service: Settings, database: Database
) -> None:
    """The fixture's build is queued, a shard for each picture."""
    with database.write() as session:
        submit(session, service, WEBHOOK_DELIVERY, {})
    assert ask(limited(max_queued=1)).status_code == 202


def test_who_waits_too_long_is_not_let_queue_more(
    limited: Limited, service: Settings, database: Database
) -> None:
    """But another tenant's long wait is no reason: the next turn may be ours."""
    client = limited(max_wait_seconds=60)
    another_tenant_asks(database, service)
    long_ago = now() - timedelta(seconds=61)
    with database.write() as session:
        session.execute(update(Job).values(created_at=long_ago))
    waiting = ask(client).json()["id"]
    assert ask(client).status_code == 202
    with database.write() as session:
        session.execute(update(Job).where(Job.id == waiting).values(created_at=long_ago))
    refused = ask(client)
    assert (refused.status_code, kind_of(refused)) == (503, "queue-slow")
    assert ask(client, priority="batch").status_code == 202
    client.post(f"/v1/attributions/{waiting}/cancel")
    assert ask(client).status_code == 202


def test_a_full_disk_refuses_what_needs_room(
    limited: Limited, service: Settings, database: Database
) -> None:
    client = limited(min_free_bytes=2**62)
    build = {"model": "tiny", "dataset": "pictures", "method": "trak"}
    for refused in (
        ask(client),
        client.post("/v1/attributions", files={"image": picture()}),
        client.post("/v1/indexes", json=build),
    ):
        assert (refused.status_code, kind_of(refused)) == (503, "disk-full")
    assert accepted(database) == 0
    assert not (service.home / "images").exists()
    assert client.get("/v1/attributions").status_code == 200


def test_a_question_says_until_when_it_is_wanted(limited: Limited, database: Database) -> None:
    client = limited(expire_seconds=3600)
    asked = client.post("/v1/attributions", json={"prompt": "a cat", "expires_in": 60}).json()
    by_default = ask(client).json()
    with database.read() as session:
        own, general = (session.get_one(Job, made["id"]) for made in (asked, by_default))
    assert own.expires_at
    assert general.expires_at
    assert own.expires_at - own.created_at < timedelta(seconds=70)
    assert timedelta(seconds=3500) < general.expires_at - general.created_at
