"""What waits for a disk, a database, a name or another process does so in a thread.

On the event loop it would hold up every other request.
"""

from __future__ import annotations

import asyncio
import io
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi.testclient import TestClient
from PIL import Image
from places import Places
from sqlalchemy import Engine, event

from app.config import Settings
from app.main import create_app

WAITING = {
    *("open", "os.fork", "os.listdir", "os.mkdir", "os.remove", "os.rename", "os.scandir"),
    *("socket.connect", "socket.getaddrinfo", "sqlite3.connect", "subprocess.Popen"),
    "tempfile.mkstemp",
}
heard: list[str] | None = None


def on_the_loop() -> bool:
    try:
        return asyncio.get_running_loop() is not None
    except RuntimeError:
        return False


def hear(name: str, arguments: tuple[Any, ...]) -> None:
    if heard is not None and name in WAITING and on_the_loop():
        heard.append(f"{name} {arguments[:1]}")


sys.addaudithook(hear)  # Python cannot take it away again: it listens only inside `listening`


def hear_statement(connection: object, cursor: object, statement: str, *_: object) -> None:
    if heard is not None and on_the_loop():
        heard.append(f"SQL {statement}")


@contextmanager
def listening() -> Iterator[list[str]]:
    """What has waited on an event loop meanwhile."""
    global heard  # noqa: PLW0603 - the hook belongs to the whole process
    heard = []
    event.listen(Engine, "before_cursor_execute", hear_statement)
    try:
        yield heard
    finally:
        heard = None
        event.remove(Engine, "before_cursor_execute", hear_statement)


def picture() -> bytes:
    content = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(content, "PNG")
    return content.getvalue()


def ask_everything(
    http: TestClient, places: Places, index_id: str, *methods: str
) -> Iterator[tuple[str, int]]:
    """Every kind of question, then every route, with things that are there."""
    http.post(f"/v1/indexes/{index_id}/activate")
    files = {"image": ("a.png", picture())}
    asked = http.post("/v1/attributions", files=files)
    yield "upload", asked.status_code
    yield "prompt", http.post("/v1/attributions", json={"prompt": "a cat"}).status_code
    address = {"image_url": "https://127.0.0.1/a.png"}
    yield "address", http.post("/v1/attributions", json=address).status_code
    dataset = {"name": "pictures", "path": str(places.dataset)}
    yield "dataset", http.post("/v1/datasets", json=dataset).status_code
    model = {"name": "tiny", "path": str(places.model), "clip_path": str(places.clip)}
    yield "model", http.post("/v1/models", json=model).status_code
    index = {"model": "tiny", "dataset": "pictures"}
    yield "index", http.post("/v1/indexes", json=index).status_code
    http.post(f"{asked.headers['Location']}/cancel")  # so that its events end
    known = {"attribution": asked.json()["id"], "dataset": "pictures", "model": "tiny"}
    known |= {"index": index_id, "key": "0.png"}
    paths = http.get("/openapi.json").json()["paths"]
    for method in methods:
        for path in [path for path, described in paths.items() if method in described]:
            filled = re.sub(r"{(\w+)}", lambda found: known.get(found[1], "x"), path)
            yield f"{method} {path}", http.request(method, filled).status_code


def test_the_ear_hears() -> None:
    async def wait() -> None:
        with open("/dev/null"):
            pass

    with listening() as sounds:
        with open("/dev/null"):
            pass
        asyncio.run(wait())
    assert sounds == ["open ('/dev/null',)"]


def test_nothing_waits_on_the_loop(http: TestClient, places: Places, index_id: str) -> None:
    usual = dict(ask_everything(http, places, index_id, "get", "post"))  # loads what is loaded once
    assert (usual["upload"], usual["prompt"]) == (202, 202), usual
    with listening() as sounds:
        codes = dict(
            ask_everything(http, places, index_id, "get", "post", "put", "patch", "delete")
        )
    assert sounds == []
    assert sum(code < 300 for code in codes.values()) > len(codes) / 3, codes


def test_neither_does_who_looks_at_keys_and_counts_requests(http: TestClient) -> None:
    wanted = {"name": "k", "scopes": ["catalogue:read"]}
    secret = http.post("/v1/api-keys", json=wanted).json()["secret"]
    settings: Settings = http.app.state.settings  # type: ignore[attr-defined]
    limited = settings.model_copy(update={"access": "keys", "rate_limit": "1000/second"})
    headers = {"Authorization": f"Bearer {secret}"}
    with TestClient(create_app(limited), headers=headers) as client:
        assert client.get("/v1/models").status_code == 200
        with listening() as sounds:
            codes = [client.get(f"/v1/{what}").status_code for what in ("models", "api-keys")]
    assert (codes, sounds) == ([200, 403], [])
