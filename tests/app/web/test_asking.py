"""Asking in a browser: a picture, a prompt, what is refused, and changing one's mind."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page, expect
from visited import Told, Visited


def ask_about_prompt(page: Page, prompt: str, steps: int) -> None:
    page.goto("/")
    page.get_by_label("A prompt").check()
    page.get_by_label("Prompt", exact=True).fill(prompt)
    page.get_by_label("Seed").fill("7")
    page.get_by_label("Guidance").fill("1.5")
    page.get_by_label("Steps").fill(str(steps))
    page.get_by_role("button", name="Draw it").click()


def test_a_picture_is_answered(page: Page, visited: Visited) -> None:
    page.goto("/")
    page.get_by_label("Drop a picture here").set_input_files(visited.picture)
    expect(page.locator("#chosen")).to_contain_text("ring.png")
    page.get_by_label("Its prompt").fill("ring, ada")
    page.get_by_text("Model and method").click()
    expect(
        page.get_by_label("Model", exact=True).get_by_role("option", name="tiny")
    ).to_be_attached()
    page.get_by_label("Images to list").fill("5")
    page.get_by_role("button", name="Find where").click()
    page.wait_for_url("**/answers/atr_*")
    expect(page.get_by_role("heading", level=1)).to_have_text("“ring, ada”")
    expect(page.get_by_role("heading", name="Most influential")).to_be_visible()
    assert page.locator(".face").count() == 5
    assert visited.http.get("/v1/attributions").json()["items"][0]["request"]["top_k"] == 5


def test_a_prompt_is_drawn_and_answered(page: Page, visited: Visited) -> None:
    ask_about_prompt(page, "disc, bob", 100)
    step = page.locator("[aria-current=step]")
    expect(step).to_be_visible()
    expect(
        page.get_by_text("Drawn here from the prompt, with seed 7, 100 steps and guidance 1.5.")
    ).to_be_visible()
    assert visited.http.get("/v1/attributions").json()["items"][0]["request"]["seed"] == 7


def test_a_question_is_canceled(page: Page) -> None:
    ask_about_prompt(page, "ring, bob", 1000)
    expect(page.locator(".stages .now")).to_contain_text("Drawing the picture")
    expect(page.locator(".stages .now progress")).not_to_have_js_property("value", 0)
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("It was canceled before there was an answer.")).to_be_visible()
    page.goto("/answers")
    expect(page.locator(".jobs li").first).to_contain_text("Canceled")


def test_what_is_no_picture_is_refused_in_words(page: Page, told: Told, tmp_path: Path) -> None:
    """The problem's title stands by the button; then the same form takes a picture."""
    text = tmp_path / "text.png"
    text.write_text("no picture")
    page.goto("/")
    page.get_by_role("button", name="Find where").click()
    expect(page.get_by_role("alert")).to_have_text("Choose a picture first.")
    page.get_by_label("Drop a picture here").set_input_files(text)
    page.get_by_role("button", name="Find where").click()
    expect(page.get_by_role("alert")).to_contain_text("The image's type is not supported")
    assert len(told.refusals) == 1


def test_an_answer_that_is_not_there_and_one_that_was_deleted(
    page: Page, visited: Visited, told: Told
) -> None:
    page.goto("/answers/atr_none")
    expect(page.get_by_role("alert")).to_contain_text("not found")
    asked = visited.http.post("/v1/attributions", files={"image": visited.picture.read_bytes()})
    page.goto(f"/answers/{asked.json()['id']}")
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete for good").click()
    page.wait_for_url("**/answers")
    page.goto(f"/answers/{asked.json()['id']}")
    expect(page.get_by_role("alert")).to_contain_text("deleted")
    assert len(told.refusals) == 2


def test_what_has_failed_says_why(page: Page, visited: Visited) -> None:
    """The kept picture goes away while the only worker is busy, so that it cannot be answered."""
    busy = visited.http.post("/v1/attributions", json={"prompt": "ring, bob", "steps": 1000})
    before = set(visited.settings.home.rglob("*.png"))
    content = visited.picture.with_name("disc.png").read_bytes()
    asked = visited.http.post("/v1/attributions", files={"image": content}).json()
    for kept in set(visited.settings.home.rglob("*.png")) - before:
        kept.unlink()
    visited.http.post(busy.json()["urls"]["cancel"])
    page.goto(f"/answers/{asked['id']}")
    expect(page.get_by_role("alert")).to_contain_text("The job failed", timeout=30_000)
    page.goto("/answers")
    expect(page.locator(".jobs li").first).to_contain_text("Failed")


def test_what_has_expired_says_so(page: Page, visited: Visited) -> None:
    """A question whose deadline passes before its turn ends unanswered, and the page says so."""
    long = {"prompt": "ring, bob", "steps": 1000}
    busy = [visited.http.post("/v1/attributions", json=long).json() for _ in range(4)]
    question = long | {"expires_in": 1}
    asked = visited.http.post("/v1/attributions", json=question).json()
    page.goto(f"/answers/{asked['id']}")
    expect(page.get_by_text("It was not answered within the time")).to_be_visible(timeout=30_000)
    for job in busy:
        visited.http.post(job["urls"]["cancel"])
    expect(page.get_by_role("link", name="Ask again")).to_be_visible()
