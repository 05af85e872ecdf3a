"""A version is what its manifest says, whole or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from attribution.index.config import IndexConfig
from attribution.index.manifest import (
    IndexFormatError,
    Manifest,
    atomic_file,
    file_digest,
    weights_digest,
)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    (tmp_path / "facts").write_bytes(b"facts")
    return Manifest(
        config=IndexConfig(seed=5),
        identity="run",
        model_digest="model",
        clip_digest="",
        samples=3,
        groups=1,
        outputs=4,
        dimension=7,
        dampings=[0.1],
        degrees_of_freedom=[2.5],
        files={"facts": file_digest(tmp_path / "facts")},
    )


def test_it_is_read_as_it_was_written(manifest: Manifest, tmp_path: Path) -> None:
    manifest.write(tmp_path)
    found = Manifest.read(tmp_path)
    assert found == manifest
    assert found.digest == manifest.digest
    assert replace(manifest, dampings=[0.2]).digest != manifest.digest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["facts", "manifest.json"]


def test_files_are_those_that_were_written(manifest: Manifest, tmp_path: Path) -> None:
    manifest.verify(tmp_path)
    (tmp_path / "facts").write_bytes(b"fakes")
    with pytest.raises(IndexFormatError, match="facts is missing or damaged"):
        manifest.verify(tmp_path)
    (tmp_path / "facts").unlink()
    with pytest.raises(IndexFormatError, match="facts is missing or damaged"):
        manifest.verify(tmp_path)


@pytest.mark.parametrize(("change", "told"), [
    (None, "holds no finished index"),
    ("{", "is not JSON"),
    ("[]", "another format"),
    ({"format": 1}, "another format"),
    ({"samples": ...}, "lacks a field"),
    ({"colour": 1}, "lacks a field"),
])  # fmt: skip
def test_what_is_no_manifest_is_refused(
    manifest: Manifest, tmp_path: Path, change: str | dict[str, object] | None, told: str
) -> None:
    file = tmp_path / "manifest.json"
    if isinstance(change, str):
        file.write_text(change)
    elif change is not None:
        values = manifest.to_dict() | change
        file.write_text(json.dumps({name: v for name, v in values.items() if v is not ...}))
    with pytest.raises(IndexFormatError, match=told):
        Manifest.read(tmp_path)


def test_an_interrupted_file_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")

    def interrupted() -> None:
        with atomic_file(tmp_path / "file") as file:
            file.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"old")]
    with atomic_file(tmp_path / "file") as file:
        file.write(b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"new")]


def test_weights_are_known_by_name_and_content(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "a.bin").write_bytes(b"1")
    (tmp_path / "unet" / "b.bin").write_bytes(b"2")
    (tmp_path / "unet" / "c.txt").write_bytes(b"3")
    digests = {weights_digest(tmp_path, "*/*.bin")}
    (tmp_path / "unet" / "c.txt").write_bytes(b"4")
    assert digests == {weights_digest(tmp_path, "*/*.bin")}
    (tmp_path / "unet" / "b.bin").write_bytes(b"3")
    digests.add(weights_digest(tmp_path, "*/*.bin"))
    (tmp_path / "unet" / "b.bin").rename(tmp_path / "unet" / "d.bin")
    digests.add(weights_digest(tmp_path, "*/*.bin"))
    assert len(digests) == 3
