"""Conditions of licences are found where every way to comply meets them."""

from __future__ import annotations

import pytest

from app.datasets.licence_conflicts import CONDITIONS, asks_for, licence_conflicts

PATTERNS = {kind: pattern for kind, pattern, _ in CONDITIONS}


@pytest.mark.parametrize(
    ("expression", "kinds"),
    [
        ("CC-BY-4.0", set()),
        ("MIT", set()),
        ("CC0-1.0", set()),
        ("CC-BY-SA-4.0", {"share-alike"}),
        ("CC-BY-NC-SA-4.0", {"share-alike", "non-commercial"}),
        ("CC-BY-NC-ND-4.0", {"non-commercial", "no-derivatives"}),
        ("CC-BY-NC-4.0 OR CC-BY-4.0", set()),
        ("CC-BY-NC-4.0 AND CC-BY-4.0", {"non-commercial"}),
        ("(CC-BY-SA-4.0 OR MIT) AND CC-BY-NC-4.0", {"non-commercial"}),
        ("GPL-2.0-only WITH Classpath-exception-2.0", {"share-alike"}),
        ("GFDL-1.3-or-later", {"share-alike"}),
        ("LAL-1.3", {"share-alike"}),
        ("PolyForm-Noncommercial-1.0.0", {"non-commercial"}),
        ("LicenseRef-Ada", {"unlisted-licence"}),
        ("LicenseRef-Ada OR CC-BY-4.0", set()),
        ("LicenseRef-Ada AND CC-BY-SA-4.0", {"unlisted-licence", "share-alike"}),
    ],
)
def test_conditions(expression: str, kinds: set[str]) -> None:
    assert {kind for kind, pattern in PATTERNS.items() if asks_for(expression, pattern)} == kinds


def test_conflicts_are_ordered_by_influence_and_count_what_they_say() -> None:
    by_licence = [
        {"licence": "CC-BY-4.0", "share": 0.5, "images": 5},
        {"licence": "unknown", "share": 0.3, "images": 3},
        {"licence": "CC-BY-SA-4.0", "share": 0.15, "images": 2},
        {"licence": "CC-BY-NC-SA-4.0", "share": 0.05, "images": 1},
        {"licence": "CC-BY-ND-4.0", "share": 0.0, "images": 9},
    ]
    found = licence_conflicts(by_licence, {"share": 0.1, "images": 4})
    assert [(row["kind"], row["images"], row["licences"]) for row in found] == [
        ("unknown-licence", 3, []),
        ("share-alike", 3, ["CC-BY-NC-SA-4.0", "CC-BY-SA-4.0"]),
        ("opt-out", 4, []),
        ("non-commercial", 1, ["CC-BY-NC-SA-4.0"]),
    ]
    assert all(row["why"] for row in found)
    assert licence_conflicts(by_licence[:1], {"share": 0.0, "images": 0}) == []
