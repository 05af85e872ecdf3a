"""Where keys are needed, the page asks for one, keeps it in the tab, and sends it in a header."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Page, Request, expect
from programs import free_port, program, wait_for
from visited import Open, Told, Visited

from app.access import keys
from app.access.scopes import SCOPES
from app.database.engine import Database
from app.database.tables import DEFAULT_TENANT


@pytest.fixture(scope="module")
def guarded(visited: Visited) -> Iterator[str]:
    """The same installation through an API process that asks for keys."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    settings = visited.settings.model_copy(update={"access": "keys"})

    def answers() -> bool:
        try:
            return httpx.get(f"{url}/livez").is_success
        except httpx.TransportError:
            return False

    with program(settings, "app.server", "127.0.0.1", str(port)):
        wait_for(answers, url)
        yield url


def key_of(visited: Visited, tenant: str) -> str:
    database = Database(visited.settings.database_url)
    keys.ensure_tenant(database, tenant)
    with database.of_tenant(tenant).write() as session:
        _, secret = keys.create(session, "browser", SCOPES, None)
    database.close()
    return secret


def enter(page: Page, secret: str) -> None:
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Key").fill(secret)
    dialog.get_by_role("button", name="Use this key").click()


def test_a_key_opens_its_tenants_answers_and_goes_nowhere_else(
    context: Open, guarded: str, visited: Visited, told: Told
) -> None:
    page = context(base_url=guarded)
    sent: list[Request] = []
    page.on("request", lambda request: sent.extend([request]))
    secret = key_of(visited, DEFAULT_TENANT)
    page.goto(f"/answers/{visited.answer}")
    enter(page, "hw_wrong")
    expect(page.get_by_role("dialog")).to_contain_text("The API key is not valid")
    enter(page, secret)
    expect(page.get_by_role("heading", level=1)).to_have_text("“ring, ada”")
    first = page.locator(".face img").first
    expect(first).to_have_js_property("naturalWidth", 16)
    assert first.evaluate("image => image.src").startswith("blob:")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Receipt").click()
    assert waiting.value.path().stat().st_size > 100

    with_key = [request for request in sent if secret in request.headers.get("authorization", "")]
    assert with_key
    assert all("/v1/" in request.url for request in with_key)
    assert not [request for request in sent if secret in request.url]
    kept = page.evaluate(
        "[Object.values(sessionStorage), Object.keys(localStorage), document.cookie]"
    )
    assert kept == [[secret], [], ""]
    assert len(told.refusals) == 2  # without a key, and with the wrong one

    page.get_by_role("button", name="API key").click()
    page.get_by_role("button", name="Forget the key").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0


def test_a_prompt_is_followed_with_a_key(context: Open, guarded: str, visited: Visited) -> None:
    """An EventSource could not send it."""
    page = context(base_url=guarded)
    page.goto("/")
    page.get_by_role("button", name="API key").click()
    enter(page, key_of(visited, DEFAULT_TENANT))
    page.wait_for_load_state()
    page.get_by_label("A prompt").check()
    page.get_by_label("Prompt", exact=True).fill("disc, ada")
    page.get_by_label("Steps").fill("60")
    page.get_by_role("button", name="Draw it").click()
    expect(page.locator(".stages .now")).to_be_visible()
    expect(page.get_by_role("heading", name="Most influential")).to_be_visible()


def test_another_tenant_sees_nothing(
    context: Open, guarded: str, visited: Visited, told: Told
) -> None:
    page = context(base_url=guarded)
    page.goto("/answers")
    enter(page, key_of(visited, "stranger"))
    expect(page.get_by_role("heading", name="Nothing yet")).to_be_visible()
    page.goto(f"/answers/{visited.answer}")
    expect(page.get_by_role("alert")).to_contain_text("not found")
    assert len(told.refusals) == 2
