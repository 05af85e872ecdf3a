"""Rates: per tenant or address, shared through Redis, told in every answer, and open without it."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest
from fastapi.testclient import TestClient
from limited_api import Limited

from app.access import keys, rate_limit
from app.access.scopes import Scope
from app.config import Settings
from app.database.engine import Database


def statuses(client: TestClient, times: int, **headers: str) -> list[int]:
    return [client.get("/v1/attributions", headers=headers).status_code for _ in range(times)]


def key_of(database: Database, tenant: str, scope: Scope = "attributions:read") -> dict[str, str]:
    keys.ensure_tenant(database, tenant)
    with database.of_tenant(tenant).write() as session:
        return {"Authorization": f"Bearer {keys.create(session, 'a key', [scope], None)[1]}"}


def test_what_is_left_is_told_until_nothing_is(limited: Limited) -> None:
    client = limited(rate_limit="3/hour")
    answers = [client.get("/v1/attributions") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert {answer.headers["RateLimit-Policy"] for answer in answers} == {'"requests";q=3;w=3600'}
    told = [re.fullmatch(r'"requests";r=(\d+);t=(\d+)', a.headers["RateLimit"]) for a in answers]
    assert [int(each[1]) for each in told if each] == [2, 1, 0, 0, 0]
    assert all(0 < int(each[2]) <= 3600 for each in told if each)
    assert answers[-1].json()["type"] == "urn:headwater:problem:rate-limited"
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 3600
    assert client.get("/livez").status_code == 200


def test_errors_count_and_tell_too(limited: Limited) -> None:
    client = limited(rate_limit="2/hour")
    missing = client.get("/v1/attributions/atr_0")
    assert missing.status_code == 404
    assert missing.headers["RateLimit"].startswith('"requests";r=1;')
    assert client.post("/v1/attributions", json={"top_k": -1}).status_code == 422
    assert client.post("/v1/attributions", json={"top_k": -1}).status_code == 429


def test_without_a_limit_nothing_is_told(http: TestClient) -> None:
    assert "RateLimit" not in http.get("/v1/attributions").headers


def test_processes_count_together_where_there_is_redis(limited: Limited, service: Settings) -> None:
    first, second = (limited(rate_limit="3/hour") for _ in range(2))
    admitted = [*statuses(first, 3), *statuses(second, 3)].count(200)
    assert admitted == (3 if service.broker_url.startswith("redis") else 6)


def test_each_address_of_an_open_installation_has_its_own(
    limited: Limited, service: Settings
) -> None:
    if not service.broker_url.startswith("redis"):
        pytest.skip("each client here is a process of its own, and they share no memory")
    limit: dict[str, Any] = {"rate_limit": "1/hour"}
    assert statuses(limited("203.0.113.5", **limit), 2) == [200, 429]
    assert statuses(limited("203.0.113.6", **limit), 1) == [200]
    # Whoever has one address of a /64 has all of them.
    assert statuses(limited("2001:db8::1", **limit), 1) == [200]
    assert statuses(limited("2001:db8::2", **limit), 1) == [429]
    assert statuses(limited("2001:db8:0:1::1", **limit), 1) == [200]


def test_each_tenant_has_its_own_whatever_its_keys(limited: Limited, database: Database) -> None:
    client = limited(rate_limit="2/hour", access="keys")
    ada, adas_other, bob = (key_of(database, tenant) for tenant in ("ada", "ada", "bob"))
    assert statuses(client, 1, **ada) == [200]
    assert statuses(client, 2, **adas_other) == [200, 429]
    assert statuses(client, 2, **bob) == [200, 200]


def test_guessing_keys_is_limited_and_costs_no_tenant(limited: Limited, database: Database) -> None:
    client = limited(rate_limit="2/hour", access="keys")
    ada = key_of(database, "ada")
    assert statuses(client, 3, Authorization="Bearer hw_guess") == [401, 401, 429]
    assert statuses(client, 2, **ada) == [200, 200]


def test_without_the_store_nothing_is_refused_and_it_is_said_once(
    limited: Limited, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limit, "PAUSE_SECONDS", 0.0)
    client = limited(rate_limit="1/hour", broker_url="redis://127.0.0.1:1/0")
    with caplog.at_level(logging.WARNING, rate_limit.__name__):
        assert statuses(client, 3) == [200, 200, 200]
    said = [record for record in caplog.records if record.name == rate_limit.__name__]
    assert len(said) == 1


def test_a_store_that_is_away_is_left_alone_for_a_while(
    limited: Limited, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = limited(rate_limit="1/hour", broker_url="redis://127.0.0.1:1/0")
    window = client.app.state.rate_limit.window  # type: ignore[attr-defined]
    asked = []
    hit = window.hit
    monkeypatch.setattr(window, "hit", lambda *given: asked.append(given) or hit(*given))
    assert statuses(client, 3) == [200, 200, 200]
    assert len(asked) == 1
