"""Quotas and back-pressure: exact under races, told with Retry-After, and nothing half done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select, update

from app.config import Settings
from app.database.engine import Database
from app.database.tables import Job, Tenant, now
from app.jobs.kinds import ATTRIBUTION
from app.main import create_app

Limited = Callable[..., TestClient]


@pytest.fixture
def limited(http: TestClient, index_id: str) -> Iterator[Limited]:
    """The same installation with other limits."""
    settings: Settings = http.app.state.settings  # type: ignore[attr-defined]
    with ExitStack() as stack:

        def make(**limits: Any) -> TestClient:
            application = create_app(settings.model_copy(update=limits))
            return stack.enter_context(TestClient(application, raise_server_exceptions=False))

        yield make


def ask(client: TestClient, **headers: str) -> Any:
    return client.post("/v1/attributions", json={"prompt": "a cat"}, headers=headers)


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
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["type"] == "urn:headwater:problem:quota-exceeded"
    assert int(refused.headers["Retry-After"]) >= 1


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


def test_a_tenants_own_limit_wins(limited: Limited, database: Database) -> None:
    client = limited(max_in_flight=1)
    with database.write() as session:
        session.execute(update(Tenant).values(max_in_flight=2))
    assert [ask(client).status_code for _ in range(3)] == [202, 202, 429]
    with database.write() as session:
        session.execute(update(Tenant).values(max_in_flight=0))
    assert ask(client).status_code == 202


def test_a_full_queue_refuses_before_it_collapses(limited: Limited, database: Database) -> None:
    client = limited(max_queued=2)
    assert [ask(client).status_code for _ in range(3)] == [202, 202, 503]
    refused = ask(client)
    assert refused.json()["type"] == "urn:headwater:problem:queue-full"
    assert refused.headers["Retry-After"]
    assert accepted(database) == 2


def test_a_rate_is_kept_per_tenant_and_told(limited: Limited) -> None:
    client = limited(rate_limit="3/hour")
    answers = [client.get("/v1/attributions") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert answers[-1].json()["type"] == "urn:headwater:problem:rate-limited"
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 3600
    assert client.get("/livez").status_code == 200


def test_without_the_store_nothing_is_refused(limited: Limited) -> None:
    client = limited(rate_limit="1/hour", broker_url="redis://127.0.0.1:1/0")
    assert [client.get("/v1/attributions").status_code for _ in range(3)] == [200, 200, 200]


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
