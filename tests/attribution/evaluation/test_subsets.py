"""Subsets hold their part of every stratum, and stay what they were when more are asked for."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribution.evaluation.subsets import SubsetError, draw_subsets, leave_groups_out, strata
from attribution.image_data.sample import Sample

labels_of_any_kind = st.lists(st.sampled_from("abc"), min_size=4, max_size=40)


@given(labels_of_any_kind, st.integers(0, 99))
def test_each_stratum_gives_its_half(labels: list[str], seed: int) -> None:
    members = draw_subsets([*labels, "a", "a"], 5, 0.5, seed)
    whole = Counter([*labels, "a", "a"])
    for subset in members:
        taken = Counter(np.asarray([*labels, "a", "a"])[subset].tolist())
        assert taken == Counter({name: round(count / 2) for name, count in whole.items()})


def test_more_subsets_leave_the_first_as_they_are() -> None:
    few, many = draw_subsets(["x"] * 30, 3, 0.5, 7), draw_subsets(["x"] * 30, 9, 0.5, 7)
    assert np.array_equal(few, many[:3])
    assert len({subset.tobytes() for subset in many}) == 9
    assert not np.array_equal(few, draw_subsets(["x"] * 30, 3, 0.5, 8))


@pytest.mark.parametrize(
    ("count", "fraction"), [(4, 0.0), (4, 1.0), (4, -1.0), (0, 0.5), (4, 0.001), (4, 0.999)]
)
def test_what_cannot_be_drawn_is_refused(count: int, fraction: float) -> None:
    with pytest.raises(SubsetError):
        draw_subsets(["x"] * 10, count, fraction, 0)


def test_strata_are_folders_or_fields() -> None:
    samples = [Sample("a/1.png", creator="Ada"), Sample("b/c/2.png", creator=None)]
    assert strata(samples, "folder") == ["a", "b/c"]
    assert strata(samples, "creator") == ["Ada", ""]
    assert strata(samples, "none") == ["", ""]


def test_groups_are_left_out_one_at_a_time() -> None:
    groups, members = leave_groups_out(["b", "a", "b"])
    assert groups == ["a", "b"]
    assert members.tolist() == [[True, False, True], [False, True, False]]
    with pytest.raises(SubsetError):
        leave_groups_out(["a", "a"])
