"""Everybody can use the page: by keyboard, with a screen reader, on a phone, in light and dark."""

from __future__ import annotations

import re
from typing import Any

import pytest
from browser import axe_core
from playwright.sync_api import Page, expect
from visited import Open, Visited

PAGES = (
    *("ask", "answers", "answer", "nobody's answer", "datasets", "dataset"),
    *("sample", "contributors", "contributor", "models", "model"),
)


def loaded(page: Page, path: str) -> None:
    page.goto(path)
    expect(page.locator("#content.loading")).to_have_count(0)


def violations(page: Page) -> list[str]:
    found: list[dict[str, Any]] = page.evaluate("async () => (await axe.run()).violations")
    return [f"{rule['id']}: {node['html']}" for rule in found for node in rule["nodes"]]


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_in_light_and_dark(page: Page, visited: Visited, name: str) -> None:
    loaded(page, visited.pages()[name])
    page.evaluate(axe_core())
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        assert violations(page) == [], scheme


def test_axe_finds_nothing_in_forms_and_dialogs(page: Page, visited: Visited) -> None:
    loaded(page, f"/answers/{visited.answer}")
    for details in page.locator("details summary").all():
        details.click()
    page.get_by_role("button", name="Delete").click()
    page.evaluate(axe_core())
    assert violations(page) == []
    loaded(page, "/")
    page.get_by_label("A prompt").check()
    page.get_by_text("Model and method").click()
    page.get_by_role("button", name="Draw it").click()
    page.evaluate(axe_core())
    assert violations(page) == []


@pytest.mark.parametrize("width", [400, 1280])
def test_no_page_scrolls_sideways(context: Open, visited: Visited, width: int) -> None:
    page = context(base_url=visited.url, viewport={"width": width, "height": 800})
    for name, path in visited.pages().items():
        loaded(page, path)
        wide = page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert wide <= 0, name


def test_everything_goes_by_keyboard(page: Page, visited: Visited) -> None:
    """From the address bar to a training image without a mouse."""
    loaded(page, "/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("radio", name="A picture")).to_be_focused()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Prompt", exact=True)).to_be_focused()
    page.keyboard.type("cross, ada")
    for _ in range(4):
        page.keyboard.press("Tab")
    expect(page.get_by_label("Steps")).to_be_focused()
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.type("5")
    page.keyboard.press("Enter")
    page.wait_for_url("**/answers/atr_*")
    first = page.locator(".face a").first
    expect(first).to_be_visible()
    for _ in range(40):
        page.keyboard.press("Tab")
        if first.evaluate("link => link === document.activeElement"):
            break
    expect(page.locator(".veil")).to_have_class(re.compile("on"))
    page.keyboard.press("Enter")
    page.wait_for_url("**/sample?*")
    expect(page.get_by_role("button", name="Take this image down")).to_be_visible()


def test_stages_are_told_to_screen_readers(page: Page, visited: Visited) -> None:
    question = {"prompt": "cross, bob", "steps": 400}
    asked = visited.http.post("/v1/attributions", json=question).json()
    page.goto(f"/answers/{asked['id']}")
    expect(page.get_by_role("status")).to_have_text("Drawing the picture")
    expect(page.get_by_role("progressbar", name="Drawing the picture")).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("link", name="Ask again")).to_be_visible()
