"""Webhook messages on their way: signed, repeated, given up, and sent to nobody's inner network."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from cryptography.fernet import Fernet
from fastapi.testclient import TestClient
from programs import kill, program, wait_for
from sqlalchemy import select, update
from standardwebhooks.webhooks import WebhookVerificationError
from webhook_receiver import Receiver

from app.config import Settings
from app.database.engine import Database
from app.database.tables import Job, OutboxMessage, now
from app.jobs.cancellation import cancel
from app.jobs.kinds import ATTRIBUTION, WEBHOOK_DELIVERY
from app.jobs.pauses import pause_after
from app.jobs.submission import submit
from app.main import create_app
from app.webhooks.attempts import MOST_GIVEN_UP
from app.webhooks.deliveries import submit_deliveries
from workers.execution import run_next
from workers.reaper import reap
from workers.tasks.queues import CPU_WORK

ATTEMPTS = 3
Work = Callable[..., None]


@pytest.fixture
def installation(service: Settings) -> Settings:
    """Speaks with this machine, and tries again at once."""
    quick = {"outbound_private": True, "webhook_seconds": 30, "webhook_pauses": [0, 0]}
    return service.model_copy(update=quick | {"public_url": "https://headwater.example/"})


@pytest.fixture
def http(installation: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(installation)) as client:
        yield client


@pytest.fixture
def work(installation: Settings, database: Database, monkeypatch: pytest.MonkeyPatch) -> Work:
    """Do what relay and worker would, until nothing is due; other settings may be given."""

    def until_idle(**changed: Any) -> None:
        settings = installation.model_copy(update=changed)
        monkeypatch.setattr("workers.tasks.delivery.settings", lambda: settings)
        monkeypatch.setattr("workers.tasks.delivery.database", lambda: database)
        while True:
            with database.write() as session:
                submit_deliveries(session, settings)
            due = Job.status == "queued", Job.kind == WEBHOOK_DELIVERY, Job.due_at <= now()
            with database.read() as session:
                if session.scalar(select(Job.id).where(*due).limit(1)) is None:
                    return
            run_next(database, settings, CPU_WORK)

    return until_idle


def register(http: TestClient, url: str) -> tuple[str, str]:
    """The new endpoint's path and secret."""
    made = http.post("/v1/webhooks", json={"url": url})
    assert made.status_code == 201, made.text
    return made.headers["Location"], made.json()["secret"]


def delivered(http: TestClient) -> list[dict[str, Any]]:
    """Every delivery, the oldest first."""
    found: list[dict[str, Any]] = http.get("/v1/webhooks/deliveries").json()["items"]
    return found[::-1]


def end_attribution(database: Database, settings: Settings, url: str | None = None) -> str:
    with database.write() as session:
        job = submit(session, settings, ATTRIBUTION, {"prompt": "a secret"}, webhook_url=url)
        assert cancel(session, job.id)
        return job.id


def test_a_message_is_thin_and_signed(
    http: TestClient, installation: Settings, database: Database, work: Work, receiver: Receiver
) -> None:
    _, endpoints = register(http, receiver.url)
    tenants = http.post("/v1/webhooks/secret").json()["secret"]
    asked = end_attribution(database, installation, f"{receiver.url}?mine=1")
    work()
    messages = {message.path: message for message in receiver.messages}
    assert len(receiver.messages) == 2
    for path, secret in (("/hook", endpoints), ("/hook?mine=1", tenants)):
        event = messages[path].verified(secret)
        assert set(event) == {"type", "timestamp", "data"}
        assert event["type"] == "attribution.canceled"
        assert event["data"] == {
            "id": asked,
            "status": "canceled",
            "url": f"https://headwater.example/v1/attributions/{asked}",
        }
        assert messages[path].headers["content-type"] == "application/json"
    with pytest.raises(WebhookVerificationError):
        messages["/hook"].verified(tenants)
    assert {item["id"] for item in delivered(http)} == {m.id for m in receiver.messages}
    for item in delivered(http):
        assert (item["status"], item["attempts"], item["response_status"], item["error"]) == (
            *("succeeded", 1, 204, None),
        )
        assert item["attempted_at"] <= item["ended_at"]


def test_what_is_refused_is_sent_again_under_its_id(
    http: TestClient, work: Work, receiver: Receiver
) -> None:
    place, secret = register(http, receiver.url)
    receiver.statuses = [500, 302, 200]
    http.post(f"{place}/test")
    work()
    assert len({message.id for message in receiver.messages}) == 1
    assert len({message.body for message in receiver.messages}) == 1
    assert [message.path for message in receiver.messages] == ["/hook"] * 3, "no redirect"
    event = [message.verified(secret) for message in receiver.messages][-1]
    assert (event["type"], event["data"]["url"].split("/v1/")[1]) == (
        "webhook.test",
        place.removeprefix("/v1/"),
    )
    (item,) = delivered(http)
    assert (item["status"], item["attempts"], item["response_status"]) == ("succeeded", 3, 200)
    again = http.post(f"/v1/webhooks/deliveries/{item['id']}/redeliver")
    assert again.status_code == 202
    work()
    assert [message.id for message in receiver.messages] == [item["id"]] * 4
    assert delivered(http)[0]["attempts"] == 4


def test_pauses_grow_to_about_a_day(service: Settings) -> None:
    pauses = [
        pause_after(service, Job(kind=WEBHOOK_DELIVERY, attempt=attempt + 1))
        for attempt in range(len(service.webhook_pauses))
    ]
    assert pauses == sorted(pauses)
    assert pauses[0] < timedelta(seconds=10)
    assert timedelta(hours=20) < sum(pauses, timedelta()) < timedelta(hours=30)


def test_a_pause_is_a_job_that_is_not_due(
    http: TestClient, database: Database, work: Work, receiver: Receiver
) -> None:
    """Whoever restarts meanwhile: it is in the database; and it can be sent at once."""
    place, _ = register(http, receiver.url)
    receiver.statuses = [503, 204]
    http.post(f"{place}/test")
    work(webhook_pauses=[3600])
    (item,) = delivered(http)
    assert (item["status"], item["error"]) == ("pending", "the server answered 503")
    with database.read() as session:
        job = session.scalars(select(Job).where(Job.kind == WEBHOOK_DELIVERY)).one()
        message = session.scalars(select(OutboxMessage).order_by(OutboxMessage.id.desc())).first()
    assert message is not None
    assert now() + timedelta(minutes=59) < message.due_at == job.due_at
    http.post(f"/v1/webhooks/deliveries/{item['id']}/redeliver")
    work()
    assert (len(receiver.messages), delivered(http)[0]["status"]) == (2, "succeeded")
    with database.write() as session:
        session.execute(update(Job).values(due_at=now()))
    work()
    assert len(receiver.messages) == 2, "the first job finds that another one has sent it"


def test_what_nobody_takes_is_given_up_and_its_endpoint_disabled(
    http: TestClient, installation: Settings, database: Database, work: Work, receiver: Receiver
) -> None:
    place, _ = register(http, receiver.url)
    receiver.statuses = [500]
    for number in range(MOST_GIVEN_UP):
        assert http.get(place).json()["disabled_at"] is None
        http.post(f"{place}/test")
        work()
        assert http.get(place).json()["given_up"] == number + 1
    assert http.get(place).json()["disabled_because"] == "failing"
    assert len(receiver.messages) == MOST_GIVEN_UP * ATTEMPTS
    assert {(item["status"], item["attempts"], item["error"]) for item in delivered(http)} == {
        ("failed", ATTEMPTS, "the server answered 500")
    }
    end_attribution(database, installation)
    assert len(delivered(http)) == MOST_GIVEN_UP, "a disabled one is told nothing"

    receiver.statuses = [204]
    http.patch(place, json={"enabled": True})
    http.post(f"/v1/webhooks/deliveries/{delivered(http)[0]['id']}/redeliver")
    work()
    assert delivered(http)[0]["status"] == "succeeded"


def test_one_that_is_taken_forgives_those_before(
    http: TestClient, work: Work, receiver: Receiver
) -> None:
    place, _ = register(http, receiver.url)
    for statuses in ([500], [204], [500]):
        receiver.statuses = statuses
        http.post(f"{place}/test")
        work()
    assert http.get(place).json()["given_up"] == 1


def test_who_is_gone_is_asked_once(http: TestClient, work: Work, receiver: Receiver) -> None:
    place, _ = register(http, receiver.url)
    receiver.statuses = [410]
    http.post(f"{place}/test")
    http.post(f"{place}/test")
    work()
    assert len(receiver.messages) == 1
    assert http.get(place).json()["disabled_because"] == "gone"
    gone, waiting = delivered(http)
    assert (gone["status"], gone["response_status"]) == ("failed", 410)
    assert (waiting["status"], waiting["error"]) == ("failed", "the webhook is disabled")


def test_names_of_this_network_are_not_connected_to(
    http: TestClient, work: Work, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name is looked up when something is sent; it may have been a public one before."""
    lookup, connected = socket.getaddrinfo, []

    def rebound(name: str, *rest: Any, **more: Any) -> Any:
        return lookup("127.0.0.1" if name == "rebound.example" else name, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", rebound)
    monkeypatch.setattr(socket, "create_connection", lambda *a, **k: connected.append(a))
    port = receiver.url.split(":")[2].partition("/")[0]
    for host in ("rebound.example", "localhost", "127.1", "0x7f.0.0.1", "2130706433"):
        place, _ = register(http, f"https://{host}:{port}/hook")
        http.post(f"{place}/test")
        work(outbound_private=False)
        (item,) = http.get(f"{place}/deliveries").json()["items"]
        assert (item["status"], item["attempts"]) == ("failed", ATTEMPTS)
        assert item["error"] == "its address is not a public one", host
    assert connected == receiver.messages == []


def test_who_answers_late_is_not_waited_for(
    http: TestClient, work: Work, receiver: Receiver
) -> None:
    place, _ = register(http, receiver.url)
    receiver.hold.clear()
    http.post(f"{place}/test")
    work(webhook_seconds=0.5)
    (item,) = delivered(http)
    assert (item["status"], item["error"]) == ("failed", "no answer within 0.5 seconds")


def test_old_and_new_secret_sign_together(http: TestClient, work: Work, receiver: Receiver) -> None:
    place, old = register(http, receiver.url)
    new = http.post(f"{place}/secret").json()["secret"]
    http.post(f"{place}/test")
    work()
    (message,) = receiver.messages
    assert message.verified(old) == message.verified(new) == json.loads(message.body)


def test_without_its_key_a_secret_signs_nothing(
    http: TestClient, installation: Settings, work: Work, receiver: Receiver
) -> None:
    """That is visible, and it is tried again: the operator may bring the key back."""
    key = Fernet.generate_key().decode()
    sealing = installation.model_copy(update={"secret_keys": [key]})
    with TestClient(create_app(sealing)) as sealed:
        place, secret = register(sealed, receiver.url)
    http.post(f"{place}/test")
    work(webhook_pauses=[3600])
    (item,) = delivered(http)
    assert (item["status"], item["error"]) == (
        "pending",
        "the signing secret cannot be decrypted",
    )
    assert receiver.messages == []
    http.post(f"/v1/webhooks/deliveries/{item['id']}/redeliver")
    work(secret_keys=[key])
    assert receiver.messages[0].verified(secret)


@pytest.mark.parametrize("forgotten", ["attribution", "endpoint"])
def test_what_is_deleted_is_not_sent(
    http: TestClient,
    installation: Settings,
    database: Database,
    work: Work,
    receiver: Receiver,
    forgotten: str,
) -> None:
    """Neither what waits nor what is being tried; and nothing fails of it."""
    place, _ = register(http, receiver.url)
    asked = end_attribution(database, installation)
    receiver.statuses = [500]
    path = f"/v1/attributions/{asked}" if forgotten == "attribution" else place
    deleted: list[int] = []
    receiver.came = lambda: deleted.append(http.delete(path).status_code)
    work()
    assert (len(receiver.messages), deleted) == (1, [204])
    assert delivered(http) == []
    with database.read() as session:
        statuses = select(Job.status).where(Job.kind == WEBHOOK_DELIVERY)
        assert session.scalars(statuses).all() == ["succeeded"]


def test_a_worker_that_lost_its_job_says_nothing(
    http: TestClient, installation: Settings, database: Database, work: Work, receiver: Receiver
) -> None:
    """It hung for longer than its lease; another one has sent the message meanwhile."""
    place, _ = register(http, receiver.url)
    receiver.statuses = [204, 500]

    def take_over() -> None:
        receiver.came = lambda: None
        past = now() - timedelta(seconds=1)
        with database.write() as session:
            running = Job.kind == WEBHOOK_DELIVERY, Job.status == "running"
            session.execute(update(Job).where(*running).values(lease_until=past))
        reap(database, installation)
        run_next(database, installation, CPU_WORK)

    receiver.came = take_over
    http.post(f"{place}/test")
    work()
    assert len(receiver.messages) == 2
    (item,) = delivered(http)
    assert (item["status"], item["attempts"], item["response_status"]) == ("succeeded", 2, 204)


def test_deliveries_of_dead_workers_are_given_up_too(
    http: TestClient, installation: Settings, database: Database, work: Work, receiver: Receiver
) -> None:
    place, _ = register(http, receiver.url)
    http.post(f"{place}/test")
    receiver.statuses = [500]
    work(webhook_pauses=[3600])
    with database.write() as session:
        past = now() - timedelta(seconds=1)
        last = {"status": "running", "lease_until": past, "attempt": Job.max_attempts}
        session.execute(update(Job).values(**last))
    reap(database, installation)
    (item,) = delivered(http)
    assert (item["status"], http.get(place).json()["given_up"]) == ("failed", 1)


def test_logs_name_no_secret_and_no_address(
    http: TestClient,
    installation: Settings,
    database: Database,
    work: Work,
    receiver: Receiver,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    _, secret = register(http, f"{receiver.url}?token=t0ken")
    receiver.statuses = [500]
    end_attribution(database, installation)
    work()
    assert "the server answered 500" in caplog.text
    for private in (secret.removeprefix("whsec_"), "t0ken", "a secret"):
        assert private not in caplog.text


def test_a_worker_killed_amid_a_delivery_loses_none(
    http: TestClient, installation: Settings, database: Database, receiver: Receiver
) -> None:
    """Real relay and worker; the message that was on its way comes again, under its id."""
    http.post("/v1/webhooks/secret")
    settings = installation.model_copy(update={"webhook_pauses": [0.1] * 5})
    queue = ["-Q", settings.cpu_queue, "--concurrency", "1"]
    worker = ["celery", "-A", "workers.celery_app", "worker", *queue]
    receiver.hold.clear()
    end_attribution(database, settings, receiver.url)
    with program(settings, "workers.relay"):
        with program(settings, *worker) as killed:
            wait_for(lambda: receiver.messages, "the message")
            kill(killed)
        receiver.hold.set()
        with program(settings, *worker):
            wait_for(lambda: delivered(http)[0]["status"] == "succeeded", "the delivery")
    (item,) = delivered(http)
    assert {message.id for message in receiver.messages} == {item["id"]}
    assert item["attempts"] == len(receiver.messages) == 2
