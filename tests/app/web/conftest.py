import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from browser import ARGUMENTS, CHROMIUM
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from programs import SECONDS, wait_for
from signing_identity import Identity
from visited import NAMED_LIKE_MARKUP, SKETCHER, Open, Told, Visited

from app.config import Settings
from cli.serve import running_server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Closed with its file: while it is open nothing else can run an event loop."""
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def sketches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures in no index, whose creator and caption look like markup, and a torn one."""
    root = tmp_path_factory.mktemp("sketches")
    rows = []
    for number in range(2):
        Image.new("RGB", (16, 16), (200, 40 * number, 90)).save(root / f"{number}.png")
        row = {"file_name": f"{number}.png", "text": NAMED_LIKE_MARKUP, "creator": SKETCHER}
        rows.append(json.dumps(row | {"opt_out": True}))
    (root / "torn.png").write_bytes(b"")
    rows.append(json.dumps({"file_name": "torn.png"}))
    (root / "metadata.jsonl").write_text("\n".join(rows))
    return root


@pytest.fixture(scope="session")
def visited(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_folder: Path,
    tiny_model: Path,
    tiny_clip: Path,
    sketches: Path,
    identity: Identity,
) -> Iterator[Visited]:
    home = tmp_path_factory.mktemp("visited")
    certificate, key = identity.write(home)
    settings = Settings(
        home=home,
        model_roots=[tiny_model, tiny_clip],
        dataset_roots=[tiny_folder, sketches],
        c2pa_certificate=certificate,
        c2pa_private_key=key,
    )
    with running_server(settings) as url, httpx.Client(base_url=url, timeout=SECONDS) as http:
        paths = {"path": str(tiny_model), "clip_path": str(tiny_clip)}
        model = http.post("/v1/models", json={"name": "tiny", **paths}).json()["id"]
        shapes, drawn = (
            http.post(
                "/v1/datasets", json={"name": name, "path": str(path), "skip_invalid": True}
            ).json()["id"]
            for name, path in (("shapes", tiny_folder), ("sketches", sketches))
        )
        config = {"timesteps": 2, "projection_dim": 64}
        wanted = {"model": "tiny", "dataset": "shapes", "config": config}
        index = http.post("/v1/indexes", json=wanted).headers["Location"]
        wait_for(lambda: http.get(index).json()["state"] == "ready", "the index")
        picture = tiny_folder / "ada" / "ring.png"
        asked = http.post(
            "/v1/attributions",
            files={"image": picture.read_bytes()},
            data={"caption": "ring, ada"},
            headers={"Prefer": "wait=30"},
        ).json()
        assert asked["status"] == "succeeded", asked
        yield Visited(url, settings, http, picture, asked["id"], model, shapes, drawn)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def context(browser: Browser, told: Told) -> Iterator[Open]:
    """Opens browsers of people who have never been here; nothing on their pages may go wrong."""
    with ExitStack() as stack:

        def make(**options: object) -> Page:
            own: BrowserContext = browser.new_context(**options)  # type: ignore[arg-type]
            own.set_default_timeout(15_000)
            stack.callback(own.close)
            page = own.new_page()
            told.follow(page)
            return page

        yield make
    assert not told.complaints


@pytest.fixture
def page(context: Open, visited: Visited) -> Page:
    return context(base_url=visited.url)
