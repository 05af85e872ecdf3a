"""The ground truth's file: whole, resumable, and refused where it is something else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from attribution.evaluation.ground_truth import GroundTruth, GroundTruthError


@pytest.fixture
def truth() -> GroundTruth:
    members = np.array([[True, False, True], [False, True, True], [True, True, False]])
    return GroundTruth.planned(
        ["a.png", "b.png", "c.png"], ["val/x.png", "gen/0.png", "gen/1.png"], members, [0, 7], {}
    )


def test_comes_back_as_it_was_written(truth: GroundTruth, tmp_path: Path) -> None:
    truth.losses[1, 0] = [0.1, 0.2, 0.3]
    truth.write(tmp_path / "truth.npz")
    read = GroundTruth.read(tmp_path / "truth.npz")
    assert read.train_keys == truth.train_keys
    assert read.query_keys == truth.query_keys
    assert read.seeds == [0, 7]
    assert np.array_equal(read.members, truth.members)
    assert np.array_equal(read.losses, truth.losses, equal_nan=True)


def test_all_subsets_under_one_seed_come_first(truth: GroundTruth) -> None:
    truth.losses[1, 0] = 0.5
    assert truth.missing() == [(0, 0), (2, 0), (0, 1), (1, 1), (2, 1)]
    assert truth.whole_subsets().tolist() == []
    truth.losses[1, 1] = 0.5
    assert truth.whole_subsets().tolist() == [1]


def test_queries_are_found_by_their_set(truth: GroundTruth) -> None:
    assert truth.query_sets == ["val", "gen"]
    assert truth.queries_of("gen").tolist() == [1, 2]
    with pytest.raises(GroundTruthError, match="val, gen"):
        truth.queries_of("test")


@pytest.mark.parametrize("content", [b"", b"rubbish", b"PK\x03\x04 cut off"])
def test_rubbish_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "truth.npz"
    path.write_bytes(content)
    with pytest.raises(GroundTruthError, match=r"truth\.npz"):
        GroundTruth.read(path)


def test_another_archive_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", scores=np.ones(3))
    with pytest.raises(GroundTruthError, match="no ground truth"):
        GroundTruth.read(tmp_path / "other.npz")
