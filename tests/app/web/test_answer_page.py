"""An answer in a browser: what it shows, what lights up, and what can be taken along."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
from playwright.sync_api import Page, expect
from visited import Visited

from app.web.routes import assets


def test_all_parts_of_an_answer_are_shown(page: Page, visited: Visited) -> None:
    result = visited.http.get(f"/v1/attributions/{visited.answer}").json()["result"]
    page.goto(f"/answers/{visited.answer}")
    for owner in result["by_creator"]:
        row = page.get_by_role("row", name=owner["creator"])
        expect(row).to_contain_text(
            f"{100 * owner['share']:.1f} ± {100 * owner['std_error']:.1f} %"
        )
    remarks = page.get_by_role("region", name="Worth knowing")
    expect(remarks).to_contain_text("Share alike")
    expect(remarks).to_contain_text("Nobody’s in particular")
    statement = page.get_by_text("Influence estimate, not proof of copying.", exact=True)
    expect(statement).to_be_visible()
    basis = page.get_by_role("region", name="What this answer rests on")
    expect(basis).to_contain_text("All 12 training images of the index.")
    expect(basis).to_contain_text("Nobody has retrained it")
    expect(basis).to_contain_text(f"version {result['rests_on']['index_version'][:12]}")
    against = [row for row in result["contributors"] if row["effect"] < 0]
    assert page.locator("[aria-labelledby=against] .face").count() == len(against)
    assert page.locator("[aria-labelledby=made] .face").count() == 12 - len(against)
    first = page.locator(".face").first
    expect(first.locator("img")).to_have_js_property("complete", True)
    assert first.locator("img").evaluate("image => image.naturalWidth") == 16


def test_near_duplicates_are_folded_behind_the_first(page: Page, visited: Visited) -> None:
    """An untrained CLIP tells few pictures apart, so there are some."""
    result = visited.http.get(f"/v1/attributions/{visited.answer}").json()["result"]
    assert result["near_duplicates"]
    page.goto(f"/answers/{visited.answer}")
    fold = page.locator("details.alike").first
    expect(fold.locator(".face").first).to_be_hidden()
    fold.locator("summary").click()
    expect(fold.locator(".face").first).to_be_visible()


def test_what_is_pointed_at_or_tabbed_to_lights_its_part(page: Page, visited: Visited) -> None:
    page.goto(f"/answers/{visited.answer}")
    veil, words = page.locator(".veil"), page.locator("figcaption")
    expect(words).to_contain_text("Point at a training image")
    first = page.locator(".face a").first
    first.hover()
    expect(veil).to_have_class(re.compile("on"))
    expect(words).to_contain_text(re.compile("all over the picture|most of all the"))
    darkest = veil.locator("span").evaluate_all(
        "cells => cells.map(cell => Number(cell.style.getPropertyValue('--dark')))"
    )
    assert (len(darkest), min(darkest)) == (4, 0)
    page.mouse.move(0, 0)
    expect(veil).not_to_have_class(re.compile("on"))
    first.focus()
    expect(veil).to_have_class(re.compile("on"))


@pytest.mark.parametrize(
    "button", ["JSON", "CSV", "C2PA picture", "C2PA manifest", "PROV", "Receipt"]
)
def test_an_answer_can_be_taken_along(page: Page, visited: Visited, button: str) -> None:
    page.goto(f"/answers/{visited.answer}")
    with page.expect_download() as waiting:
        page.get_by_role("button", name=button, exact=True).click()
    content = waiting.value.path().read_bytes()
    if button in ("JSON", "PROV", "Receipt"):
        assert json.loads(content)
    elif button == "CSV":
        rows = list(csv.DictReader(io.StringIO(content.decode())))
        assert (len(rows), rows[0]["rank"]) == (12, "1")
        assert float(rows[0]["effect"])
    else:
        assert len(content) > 1000


def test_a_table_holds_no_formula_and_words_say_where(page: Page) -> None:
    """The modules by themselves: spreadsheets run cells that begin with an equals sign."""
    page.goto("/")
    table, places, groups = page.evaluate(
        """async (folder) => {
          const [{ asCsv }, { where }, { folded }] = await Promise.all(
            ["csv.js", "regions.js", "wall.js"].map((name) => import(folder + name)));
          const row = { rank: 1, key: "a", text: '=HYPERLINK("x"),1', effect: -1, regions: [1, 0] };
          const effects = { a: 1, b: 1, c: -1, d: 1 };
          const rows = Object.entries(effects).map(([key, effect]) => ({ key, effect }));
          return [
            asCsv([row]),
            [[1, 1, 1, 1], [0, 0, 0, 9], [0, 9, 0, 0], [0, 0, 0, 0, 9, 0, 0, 0, 0]].map(where),
            folded(rows, [["a", "c", "d"]]).map((group) => group.map(({ key }) => key)),
          ];
        }""",
        assets.url("csv.js").removesuffix("csv.js"),
    )
    assert '"\'=HYPERLINK(""x""),1"' in table
    assert ",-1," in table
    assert places == [
        "all over the picture",
        "most of all the bottom right",
        "most of all the top right",
        "most of all the centre",
    ]
    assert groups == [["a", "d"], ["b"], ["c"]]
