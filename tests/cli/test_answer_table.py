from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from cli.answer_table import show


@pytest.fixture
def answer() -> dict[str, Any]:
    first = {
        "rank": 1,
        "key": "ada/disc.png",
        "text": "disc [bold]ada",
        "creator": "Ada Example",
        "licence": "CC-BY-4.0",
        "source": None,
        "effect": 0.0123,
        "std_error": 0.004,
        "score": 1.5,
        "share": 0.25,
        "clip_similarity": 0.91,
        "regions": None,
    }
    second = first | {
        "rank": 2, "key": "bob/ring.png", "text": None, "creator": None, "licence": None,
        "effect": -0.5, "std_error": None,
    }  # fmt: skip
    return {
        "contributors": [first, second],
        "by_creator": [
            {"creator": "Ada Example", "share": 0.75},
            {"creator": "unknown", "share": 0.25},
        ],
        "by_licence": [{"licence": "CC-BY-4.0", "share": 1.0}],
        "candidates": {"strategy": "clip", "considered": 8, "corpus": 12, "exhaustive": False},
        "rests_on": {"method": "das"},
        "statement": "Influence estimate, not proof of copying",
    }


def printed(answer: dict[str, Any]) -> str:
    console = Console(width=140)
    with console.capture() as capture:
        show(answer, console)
    return capture.get()


def test_rows(answer: dict[str, Any]) -> None:
    lines = printed(answer).splitlines()
    (first,) = [line for line in lines if "disc" in line]
    for cell in ("disc [bold]ada", "Ada Example", "CC-BY-4.0", "+0.012 ± 0.004", "25.0%", "0.91"):
        assert cell in first
    (second,) = [line for line in lines if "bob/ring.png" in line]
    assert "-0.5 " in second
    assert "±" not in second
    assert second.count("unknown") == 2


def test_roll_ups_and_basis(answer: dict[str, Any]) -> None:
    text = printed(answer)
    assert "Influence by creator" in text
    assert "Influence by licence" in text
    assert "75.0%" in text
    assert "8 of 12 training images, chosen by clip" in text
    assert "Influence estimate, not proof of copying" in text


def test_exhaustive(answer: dict[str, Any]) -> None:
    answer["candidates"] |= {"considered": 12, "exhaustive": True}
    assert "all 12 training images" in printed(answer)


def test_what_a_lawyer_asks_about(answer: dict[str, Any]) -> None:
    answer["by_creator"][0]["std_error"] = 0.031
    answer |= {
        "licence_conflicts": [
            {
                "kind": "share-alike",
                "licences": ["CC-BY-SA-4.0"],
                "share": 0.15,
                "images": 2,
                "why": "works made from the image must be shared under the same terms",
            },
            {"kind": "opt-out", "licences": [], "share": 0.1, "images": 1, "why": "so it is"},
        ],
        "near_duplicates": [["ada/disc.png", "[b]/disc.png"]],
        "unattributed_share": 0.42,
        "redacted": 1,
    }
    text = " ".join(printed(answer).split())
    for told in (
        "75.0% ± 3.1%",
        "share-alike: 15.0% of the influence, 2 images (CC-BY-SA-4.0); works made from",
        "opt-out: 10.0% of the influence, 1 images; so it is.",
        "Hardly to be told apart: ada/disc.png, [b]/disc.png.",
        "42.0% of the influence",
        "Taken down since: 1 of the listed images.",
    ):
        assert told in text
