"""Datasets, creators and models in a browser, and taking pictures down."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect
from visited import NAMED_LIKE_MARKUP, SKETCHER, Told, Visited


def test_a_creator_sees_where_the_pictures_went(page: Page, visited: Visited) -> None:
    page.goto("/contributors")
    page.get_by_role("link", name="Ada Example").click()
    expect(page.get_by_role("region", name="Where they were trained on")).to_contain_text("shapes")
    expect(page.get_by_role("link", name="tiny")).to_be_visible()
    owed = page.get_by_role("region", name="Pictures that owe them something")
    expect(owed).to_contain_text("Named in")
    expect(owed.get_by_role("link", name="“ring, ada”").first).to_be_visible()
    assert page.locator(".tile").count() == 6


def test_names_that_look_like_markup_stay_text(page: Page, visited: Visited) -> None:
    page.goto(f"/datasets/{visited.sketches}")
    expect(page.locator(".tile").first).to_contain_text(NAMED_LIKE_MARKUP)
    page.locator(".tile a").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(NAMED_LIKE_MARKUP)
    expect(page.get_by_role("link", name=SKETCHER)).to_be_visible()
    assert page.evaluate("window.ran") is None


def test_a_dataset_is_looked_through(page: Page, visited: Visited) -> None:
    page.goto(f"/datasets/{visited.dataset}")
    expect(page.locator(".tile")).to_have_count(12)
    page.get_by_label("Licence").fill("CC-BY-4.0")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator(".tile")).to_have_count(6)
    page.get_by_label("Opt-out").select_option("true")
    expect(page.get_by_role("heading", name="No such image")).to_be_visible()


def test_what_was_refused_is_told(page: Page, visited: Visited) -> None:
    page.goto(f"/datasets/{visited.sketches}")
    page.get_by_text("1 image was refused").click()
    expect(page.locator(".refused")).to_contain_text("torn.pngit is empty")


def test_a_build_is_followed(page: Page, visited: Visited) -> None:
    """Another index over the same images is built from the model's page, and becomes the second."""
    page.goto(f"/models/{visited.model}")
    expect(page.locator("article")).to_have_count(1)
    expect(page.locator("article")).to_contain_text("Active")
    page.get_by_label("Trained on").select_option("shapes")
    page.get_by_role("button", name="Build an index").click()
    expect(page.locator("article")).to_have_count(2)
    expect(page.locator("article progress")).to_be_visible()
    expect(page.locator("article .badge.running")).to_have_count(0, timeout=40_000)
    ready = page.locator("article").filter(has=page.get_by_role("button", name="Make active"))
    ready.get_by_role("button").click()
    expect(page.get_by_role("button", name="Deactivate")).to_have_count(1)


def test_a_picture_is_taken_down(page: Page, visited: Visited, told: Told) -> None:
    page.goto(f"/sample?dataset={visited.sketches}&key=0.png")
    page.get_by_role("button", name="Take this image down").click()
    asking = page.get_by_role("dialog")
    expect(asking).to_contain_text("This cannot be undone.")
    page.keyboard.press("Escape")
    expect(asking).to_be_hidden()
    page.get_by_role("button", name="Take this image down").click()
    asking.get_by_label("Reason").fill("asked by Cléo")
    asking.get_by_role("button", name="Take down this image").click()
    expect(asking).to_contain_text("1 image taken down")
    asking.get_by_role("button", name="Close").click()
    expect(page.get_by_role("alert")).to_contain_text("The image was taken down")
    assert len(told.refusals) == 1
    page.goto("/datasets")
    takedowns = page.get_by_role("region", name="Takedowns")
    expect(takedowns).to_contain_text("1 image of sketches")
    expect(takedowns).to_contain_text("asked by Cléo")


def test_all_pictures_of_a_creator_are_taken_down(page: Page) -> None:
    page.goto("/contributors")
    page.get_by_role("link", name=SKETCHER).click()
    page.get_by_role("button", name="Take all down").click()
    asking = page.get_by_role("dialog")
    asking.get_by_role("button", name="Take down all images").click()
    expect(asking).to_contain_text(re.compile("images? taken down"))
    asking.get_by_role("button", name="Close").click()
    expect(page.get_by_role("heading", name="No image")).to_be_visible()
