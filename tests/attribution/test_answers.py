"""Roll-ups with their errors, near-duplicates and what nobody's is, against plain arithmetic."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
import pytest

from attribution.answers import compose_answer, near_duplicates
from attribution.attributor import Attribution
from attribution.image_data.sample import Sample
from attribution.index.config import IndexConfig
from attribution.index.manifest import Manifest

KEYS = list("abcd")
OWNERS = {
    "a": Sample("a", creator="Ada", licence="MIT"),
    "b": Sample("b", creator="Ada", licence="CC-BY-4.0", opt_out={"declared": "notAllowed"}),
    "c": Sample("c", creator="Bob", licence="MIT"),
}


def attribution(parts: np.ndarray, cosines: np.ndarray | None = None) -> Attribution:
    alike = np.eye(len(parts)) if cosines is None else cosines
    config = (
        IndexConfig(probes=parts.shape[1]) if parts.shape[1] > 1 else IndexConfig(output="mean")
    )
    manifest = Manifest(config, "", "", "", len(parts), 1, parts.shape[1], 8, [1.0], [1.0], {})
    return Attribution(
        manifest,
        "das",
        "exhaustive",
        KEYS[: len(parts)],
        np.sqrt(parts),
        parts,
        parts.sum(axis=1),
        np.zeros(len(parts)),
        lambda positions: alike[np.ix_(positions, positions)],
    )


def test_the_error_of_a_roll_up_is_the_jackknife_over_regions(rng: np.random.Generator) -> None:
    parts = rng.random((4, 4))
    answer = compose_answer(attribution(parts), OWNERS, top_k=2)
    shares = {row["creator"]: row for row in answer["by_creator"]}
    left = []
    for q in range(4):
        rest = np.delete(parts, q, axis=1).sum(axis=1)
        left.append(rest[:2].sum() / rest.sum())
    expected = np.sqrt(3 / 4 * ((np.array(left) - np.mean(left)) ** 2).sum())
    assert shares["Ada"]["share"] == pytest.approx(parts[:2].sum() / parts.sum())
    assert shares["Ada"]["std_error"] == pytest.approx(expected)
    assert shares["unknown"]["images"] == 1
    assert sum(row["share"] for row in answer["by_creator"]) == pytest.approx(1)
    assert answer["opted_out"] == {
        "share": pytest.approx(parts[1].sum() / parts.sum()),
        "images": 1,
    }


def test_one_output_has_no_errors() -> None:
    answer = compose_answer(attribution(np.ones((3, 1))), OWNERS, top_k=3)
    assert answer["unattributed_share"] is None
    assert {row["std_error"] for row in answer["by_creator"]} == {None}


def test_what_is_within_the_noise_is_nobodys() -> None:
    steady = np.full((1, 4), 4.0)
    noisy = np.array([[16.0, 0.0, 0.0, 0.0]])
    answer = compose_answer(attribution(np.concatenate([steady, noisy])), OWNERS, top_k=2)
    # The effect of the second is 4 with a standard error of 4: within two of none.
    assert answer["unattributed_share"] == pytest.approx(0.5)


def test_near_duplicates_are_chained_and_only_listed() -> None:
    cosines = np.eye(4)
    for i, j in ((0, 2), (2, 3)):
        cosines[i, j] = cosines[j, i] = 0.99
    asked = attribution(np.ones((4, 4)), cosines)
    assert near_duplicates(asked, np.array([0, 1, 2, 3])) == [["a", "c", "d"]]
    assert near_duplicates(asked, np.array([0, 1, 3])) == []


def test_an_image_that_is_not_considered_has_no_part(rng: np.random.Generator) -> None:
    parts = rng.random((4, 4))
    cosines = np.eye(4)
    cosines[2, 3] = cosines[3, 2] = 1.0
    smaller = attribution(parts, cosines).without({"a"})
    answer = compose_answer(smaller, OWNERS, top_k=4)
    assert {row["key"] for row in answer["contributors"]} == {"b", "c", "d"}
    assert sum(row["share"] for row in answer["contributors"]) == pytest.approx(1)
    assert answer["near_duplicates"] == [
        [row["key"] for row in answer["contributors"] if row["key"] in "cd"]
    ]
    assert cast(float, answer["listed_share"]) == pytest.approx(1)
    assert replace(smaller, method="das").keys == ["b", "c", "d"]


def test_of_nothing_considered_nothing_is_said() -> None:
    emptied = attribution(np.ones((4, 4))).without(set(KEYS))
    answer = compose_answer(emptied, OWNERS, top_k=3)
    assert (answer["contributors"], answer["by_creator"]) == ([], [])
    assert (answer["listed_share"], answer["unattributed_share"]) == (0.0, 0.0)
