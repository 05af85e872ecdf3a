"""WebDataset archives, written by the webdataset library, and those that are damaged."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import webdataset
from pictures import picture

from attribution.image_data.opening import listed, open_image_data, reopen
from attribution.image_data.sample import ImageDataError, Place, Refused, Sample


def write_shard(path: Path, *samples: dict[str, Any]) -> None:
    with webdataset.TarWriter(str(path)) as writer:
        for sample in samples:
            writer.write(sample)


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def test_pictures_with_metadata_and_captions(tmp_path: Path) -> None:
    ada = {"text": "sea", "creator": "Ada", "license": "MIT", "opt_out": True, "seed": 3}
    write_shard(
        tmp_path / "b-000.tar",
        {"__key__": "x/0001", "png": picture(1), "json": ada, "cls": 4},
        {"__key__": "x/0002", "jpg": picture(2, "JPEG"), "txt": "sky\n", "seg.png": picture(9)},
    )
    write_shard(tmp_path / "a-000.tar", {"__key__": "0001", "webp": picture(3, "WEBP")})
    data = open_image_data(tmp_path)
    samples, refused = listed(data)
    assert (data.form, refused) == ("webdataset", [])
    assert [(sample.key, sample.text, sample.creator) for sample in samples] == [
        ("a-000.tar/0001.webp", None, None),
        ("b-000.tar/x/0001.png", "sea", "Ada"),
        ("b-000.tar/x/0002.jpg", "sky", None),
    ]
    assert samples[1].licence == "MIT"
    assert samples[1].opt_out == {"declared": "notAllowed"}
    assert samples[1].seed == 3
    again = reopen("webdataset", tmp_path)
    contents = [picture(3, "WEBP"), picture(1), picture(2, "JPEG")]
    assert [again.read(sample) for sample in samples] == contents


def test_a_single_archive(tmp_path: Path) -> None:
    write_shard(tmp_path / "one.tar", {"__key__": "0", "png": picture(1)})
    write_shard(tmp_path / "two.tar", {"__key__": "0", "png": picture(2)})
    samples, _ = listed(open_image_data(tmp_path / "two.tar"))
    assert [sample.key for sample in samples] == ["two.tar/0.png"]
    assert reopen("webdataset", tmp_path / "two.tar").read(samples[0]) == picture(2)


def test_what_is_not_an_image_is_no_sample(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"README.md": b"hello", "1.png": picture(1), "2.json": b"{}"})
    assert [sample.key for sample in listed(open_image_data(tmp_path))[0]] == ["a.tar/1.png"]


def test_faulty_members_are_named(tmp_path: Path) -> None:
    faulty = {
        "a.json": b"{",
        "b.json": b"[]",
        "c.txt": b"\xff\xfe\xfd",
        "d.json": json.dumps({"creator": 7}).encode(),
        "e.txt": b" " * 1_000_001,
        "f.txt": b"fine",
    }
    members: dict[str, bytes] = {}
    for name, content in faulty.items():
        members |= {f"{name[0]}.png": picture(1), name: content}
    write_tar(tmp_path / "x.tar", members)
    samples, refused = listed(open_image_data(tmp_path), skip=True)
    assert [(sample.key, sample.text) for sample in samples] == [("x.tar/f.png", "fine")]
    told = {one.what: one.reason for one in refused}
    assert list(told) == [f"x.tar/{letter}.png" for letter in "abcde"]
    assert [reason.split(" (")[0] for reason in told.values()] == [
        "its json cannot be read",
        "its json is not an object",
        "its txt is not UTF-8",
        "creator must be a string",
        "its txt is longer than 1000000 bytes",
    ]


def test_a_name_that_comes_twice(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for shade in (1, 2):
            member = tarfile.TarInfo("1.png")
            member.size = len(picture(shade))
            archive.addfile(member, io.BytesIO(picture(shade)))
    samples, refused = listed(open_image_data(tmp_path), skip=True)
    assert open_image_data(tmp_path).read(samples[0]) == picture(1)
    assert refused == [Refused("x.tar/1.png", "it is in the archive twice")]


def test_an_archive_that_was_cut_off(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", {"1.png": picture(1), "2.png": picture(2) * 100})
    whole = (tmp_path / "x.tar").read_bytes()
    (tmp_path / "x.tar").write_bytes(whole[:2000])
    samples, refused = listed(open_image_data(tmp_path), skip=True)
    assert [sample.key for sample in samples] == ["x.tar/1.png"]
    assert refused == [Refused("x.tar/2.png", "the archive ends inside of it")]
    with pytest.raises(ImageDataError, match=r"x\.tar/2\.png: the archive ends inside of it"):
        listed(open_image_data(tmp_path))
    with pytest.raises(FileNotFoundError, match="shorter"):
        open_image_data(tmp_path).read(Sample("x.tar/2.png", place=Place("x.tar", 1900, 500)))


def test_what_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(ImageDataError, match="no uncompressed tar archive"):
        listed(open_image_data(tmp_path))
    with tarfile.open(tmp_path / "x.tar", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("1.png"))
    with pytest.raises(ImageDataError, match="no uncompressed tar archive"):
        listed(open_image_data(tmp_path))


def test_links_and_places_lead_nowhere_else(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    write_tar(tmp_path / "outside.tar", {"1.png": picture(1)})
    link = tarfile.TarInfo("2.png")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(root / "x.tar", "w") as archive:
        archive.addfile(link)
    with pytest.raises(ImageDataError, match="no images that can be used"):
        listed(open_image_data(root))
    with pytest.raises(FileNotFoundError, match="outside the folder"):
        reopen("webdataset", root).read(Sample("x", place=Place("../outside.tar", 512, 10)))
    (root / "link.tar").symlink_to(tmp_path / "outside.tar")
    with pytest.raises(FileNotFoundError, match="outside the folder"):
        listed(open_image_data(root))
