"""A version without some images: nothing of theirs is left, and the others' scores are the same."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from written_index import DIMENSION, GROUPS, OUTPUTS, write_index

from attribution.index.build import DIRECTIONS
from attribution.index.manifest import IndexFormatError, Manifest
from attribution.index.redact import NothingLeftError, redact
from attribution.index.search import Index

KEYS = [f"{number}.png" for number in range(6)]
GONE = {"0.png", "3.png", "elsewhere.png"}
KEPT = np.array([1, 2, 4, 5])


@pytest.fixture
def built(tmp_path: Path) -> Path:
    write_index(tmp_path / "built", KEYS)
    return tmp_path / "built"


def test_the_other_rows_stay_as_they_were(built: Path, rng: np.random.Generator) -> None:
    target = built.with_name("smaller")
    manifest = redact(built, target, GONE)
    assert manifest == Manifest.read(target)
    before, after = Index(built), Index(target, verify=True)
    assert after.keys == ["1.png", "2.png", "4.png", "5.png"]
    query = torch.from_numpy(rng.standard_normal((1, GROUPS, OUTPUTS, DIMENSION))).float()
    asked = before.precondition(query)
    assert torch.equal(asked, after.precondition(query))
    assert np.array_equal(before.products(asked)[:, KEPT], after.products(asked))
    for name in ("lengths", "leverages", "solved_lengths", "residuals", "probed_residuals"):
        kept = getattr(before.facts(KEPT), name)
        assert np.array_equal(kept, getattr(after.facts(slice(None)), name))
    embedding = rng.standard_normal(DIMENSION).astype(np.float32)
    similar = after.clip_similarities(embedding, np.arange(4))
    assert np.allclose(similar, before.clip_similarities(embedding, KEPT))


def test_no_file_holds_what_is_gone(built: Path) -> None:
    target = built.with_name("smaller")
    redact(built, target, GONE)
    content = b"".join(file.read_bytes() for file in target.iterdir())
    assert b"3.png" not in content
    width = GROUPS * OUTPUTS * DIMENSION * 2
    rows = (built / DIRECTIONS).read_bytes()
    assert rows[3 * width : 4 * width] not in content
    assert rows[4 * width : 5 * width] in content
    assert [path.name for path in sorted(built.parent.iterdir())] == ["built", "smaller"]


def test_a_version_without_them_is_left_alone(built: Path) -> None:
    assert redact(built, built.with_name("smaller"), {"elsewhere.png"}) is None
    assert [path.name for path in built.parent.iterdir()] == ["built"]


def test_nothing_left_is_no_version(built: Path) -> None:
    with pytest.raises(NothingLeftError):
        redact(built, built.with_name("smaller"), set(KEYS))
    assert [path.name for path in built.parent.iterdir()] == ["built"]


def test_two_at_once_agree(built: Path) -> None:
    target = built.with_name("smaller")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: redact(built, target, GONE), range(8)))
    assert set(map(repr, found)) == {repr(Manifest.read(target))}
    Index(target, verify=True)
    assert sorted(path.name for path in built.parent.iterdir()) == ["built", "smaller"]


def test_an_unreadable_version_leaves_nothing_behind(built: Path) -> None:
    (built / "manifest.json").unlink()
    with pytest.raises(IndexFormatError):
        redact(built, built.with_name("smaller"), GONE)
    assert [path.name for path in built.parent.iterdir()] == ["built"]
