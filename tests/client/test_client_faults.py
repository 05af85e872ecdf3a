"""What the client does when the network or the server has a bad moment, over real sockets."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
import uvicorn
from faulty_proxy import LOST, FaultyProxy
from programs import free_port, wait_for

from app.config import Settings
from app.database.engine import Database
from app.database.migrate import upgrade
from app.database.tables import now
from app.main import create_app
from headwater_client import (
    AsyncClient,
    Client,
    HeadwaterError,
    Retries,
    UnreachableError,
    WaitTimeoutError,
)
from headwater_client.models import Index

QUICK = Retries(first_pause=0.01)
BAD_GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 5\r\nConnection: close\r\n\r\noops\n"
CREATED = (
    b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
    b"Connection: close\r\n\r\n{}"
)


def busy(retry_after: str) -> bytes:
    return (
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n"
        b"Content-Length: 63\r\nConnection: close\r\nRetry-After: "
        + retry_after.encode()
        + b"\r\n\r\n"
        b'{"type": "urn:x:queue-full", "title": "Full",    "status": 503}'
    )


@pytest.fixture
def through(proxy: FaultyProxy) -> Iterator[Client]:
    """A client whose connections may have faults."""
    with Client(proxy.url, api_key="hw_test", retries=QUICK) as client:
        yield client


@contextmanager
def api(settings: Settings, port: int) -> Iterator[str]:
    """The HTTP server alone: without workers, what is asked stays queued."""
    config = uvicorn.Config(create_app(settings), port=port, log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started, "the server's start")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    found = Settings(home=tmp_path / "quiet")
    database = Database(found.database_url)
    upgrade(database)
    database.close()
    return found


@pytest.mark.usefixtures("index")
def test_a_question_whose_answer_is_lost_is_one_job(
    through: Client, proxy: FaultyProxy, client: Client, tiny_folder: Path
) -> None:
    """The first time nothing comes back, the second time half of the answer."""
    before = {found.id for found in client.attributions.list()}
    proxy.next(LOST, 100)
    asked = through.attributions.ask_about_image(tiny_folder / "bob" / "disc.png", top_k=2)
    assert len(proxy.heard) == 3
    keys = proxy.headers("Idempotency-Key")
    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert proxy.headers("Authorization") == ["Bearer hw_test"] * 3
    assert {found.id for found in client.attributions.list()} - before == {asked.id}
    assert client.attributions.wait(asked, timeout=60).attempt == 1
    through.attributions.ask_about_prompt("disc", steps=2)
    assert len(set(proxy.headers("Idempotency-Key"))) == 2, "another question, another key"


@pytest.mark.usefixtures("index")
def test_the_same_with_await(proxy: FaultyProxy, client: Client, tiny_folder: Path) -> None:
    async def ask() -> str:
        async with AsyncClient(proxy.url, retries=QUICK) as through:
            picture = tiny_folder / "bob" / "disc.png"
            asked = await through.attributions.ask_about_image(picture)
            proxy.next(LOST)
            return (await through.attributions.wait(asked, timeout=60)).id

    before = {found.id for found in client.attributions.list()}
    proxy.next(LOST, BAD_GATEWAY)
    done = asyncio.run(ask())
    assert {found.id for found in client.attributions.list()} - before == {done}


@pytest.mark.usefixtures("index")
@pytest.mark.parametrize("through_bytes", [250, 400])
def test_events_over_a_connection_that_breaks(
    through: Client, proxy: FaultyProxy, client: Client, tiny_folder: Path, through_bytes: int
) -> None:
    """Each event once and in order, wherever the stream was cut."""
    asked = client.attributions.ask_about_image(tiny_folder / "bob" / "disc.png")
    whole = list(client.attributions.events(asked))
    proxy.next(through_bytes, LOST, through_bytes)
    assert list(through.attributions.events(asked)) == whole
    assert len(proxy.heard) > 3
    last_seen = [int(number) for number in proxy.headers("Last-Event-ID")]
    assert last_seen[0] == 0
    assert last_seen == sorted(last_seen)
    assert last_seen[-1] > 0, "it went on instead of beginning anew"

    async def collect() -> list[object]:
        async with AsyncClient(proxy.url, retries=QUICK) as other:
            return [event async for event in other.attributions.events(asked)]

    proxy.next(through_bytes)
    assert asyncio.run(collect()) == whole


@pytest.mark.usefixtures("index")
def test_a_stream_that_only_breaks_is_given_up(through: Client, proxy: FaultyProxy) -> None:
    asked = through.attributions.ask_about_prompt("disc", steps=2)
    through.attributions.wait(asked, timeout=60)
    proxy.next(*[0] * 50)  # the answer's head, and no event
    with pytest.raises(UnreachableError) as broken:
        list(through.attributions.events(asked))
    assert broken.value.problem.kind == "stream-broken"
    assert len(proxy.headers("Last-Event-ID")) == QUICK.attempts


def test_what_must_not_be_done_twice_is_sent_once(
    through: Client, proxy: FaultyProxy, client: Client
) -> None:
    """An API key whose answer is lost may be there: the client says so, and makes no second one."""
    for lost in (LOST, BAD_GATEWAY):
        proxy.next(lost)
        before = len(proxy.heard)
        with pytest.raises(HeadwaterError):
            through.api_keys.create(f"lost {len(proxy.heard)}", ["keys:read"])
        assert len(proxy.heard) == before + 1
    proxy.next(busy("0"))
    made = through.api_keys.create("refused first", ["keys:read"])
    names = [key.name for key in client.api_keys.list()]
    assert (names.count("lost 0"), names.count("refused first")) == (1, 1)
    client.api_keys.revoke(made)


@pytest.mark.usefixtures("index")
def test_a_deletion_whose_answer_is_lost_is_a_deletion(
    through: Client, proxy: FaultyProxy, client: Client
) -> None:
    asked = client.attributions.ask_about_prompt("disc", steps=2)
    proxy.next(LOST)
    through.attributions.delete(asked)
    assert len(proxy.heard) == 2
    with pytest.raises(HeadwaterError) as gone:
        through.attributions.delete(asked)
    assert gone.value.problem.status == 410, "this one has deleted nothing"


def test_retry_after_is_honoured(through: Client, proxy: FaultyProxy) -> None:
    """In seconds and as a date; who has to stay away for long is told so at once."""
    date = format_datetime(now().replace(microsecond=0) + timedelta(seconds=4), usegmt=True)
    for told in ("1", date):
        proxy.next(busy(told))
        begun = time.monotonic()
        list(through.datasets.list())
        assert time.monotonic() - begun >= 1
    proxy.next(busy("3600"))
    with pytest.raises(HeadwaterError, match="Full") as refused:
        list(through.datasets.list())
    assert refused.value.retry_after == 3600
    assert refused.value.problem.kind == "queue-full"
    proxy.next(*[BAD_GATEWAY] * 20)
    with pytest.raises(HeadwaterError, match="Bad Gateway") as failed:
        through.models.get("tiny")
    assert failed.value.problem.status == 502
    assert len(proxy.plan) == 20 - QUICK.attempts


def test_rates_are_kept(settings: Settings) -> None:
    """More requests than the installation allows: slower, and none is lost."""
    limited = settings.model_copy(update={"rate_limit": "3/second"})
    with api(limited, free_port()) as url, Client(url) as client:
        begun = time.monotonic()
        for _ in range(8):
            assert list(client.datasets.list()) == []
        assert time.monotonic() - begun > 1


def test_a_server_that_is_not_there_yet(settings: Settings) -> None:
    """A connection that was never made is tried again, whatever would be done over it."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with (
        Client(url, retries=Retries(attempts=3, first_pause=0.01)) as client,
        pytest.raises(UnreachableError, match=url) as nobody,
    ):
        list(client.datasets.list())
    assert nobody.value.problem.status is None
    made: list[str] = []
    with Client(url, retries=Retries(attempts=50, first_pause=0.1, longest_pause=0.5)) as client:
        asking = threading.Thread(
            target=lambda: made.append(client.api_keys.create("early", ["keys:read"]).name)
        )
        asking.start()
        time.sleep(0.3)
        with api(settings, port):
            asking.join(30)
    assert made == ["early"]


def test_a_server_that_says_nothing() -> None:
    """Time runs out for the whole of the waiting, also within one look."""
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        Client(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=60) as client,
    ):
        begun = time.monotonic()
        with pytest.raises(WaitTimeoutError):
            client.attributions.wait("atr_1", timeout=0.5)
        assert time.monotonic() - begun < 30


def test_an_answer_that_is_not_understood(
    through: Client, proxy: FaultyProxy, index: Index
) -> None:
    proxy.next(CREATED)
    with pytest.raises(HeadwaterError, match="id, ") as strange:
        through.models.get(index.model)
    assert strange.value.problem.kind == "answer-not-understood"
