"""Folders of training images: with owners or without, and which are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from attribution.image_data.opening import listed, open_image_data
from attribution.image_data.sample import ImageDataError, Sample


def read_folder(path: Path) -> list[Sample]:
    return listed(open_image_data(path))[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "folder"
    (root / "sub").mkdir(parents=True)
    for name in ("b.png", "a.JPG", "sub/c.webp", "../outside.png"):
        Image.new("RGB", (2, 2)).save(root / name)
    (root / "notes.txt").write_text("no image")
    return root


def write(folder: Path, *rows: object) -> None:
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    (folder / "metadata.jsonl").write_text("\n".join(lines))


def test_without_metadata_every_image_is_found_in_order(folder: Path) -> None:
    assert read_folder(folder) == [Sample("a.JPG"), Sample("b.png"), Sample("sub/c.webp")]


def test_metadata_chooses_and_describes(folder: Path) -> None:
    known = {"text": "sea", "creator": "Ada", "licence": "CC0-1.0", "source": "home", "seed": 3}
    write(folder, {"file_name": "sub/c.webp", **known, "width": 2}, "", {"file_name": "./b.png"})
    assert read_folder(folder) == [Sample("b.png"), Sample("sub/c.webp", **known)]


def test_of_several_licences_all_hold(folder: Path) -> None:
    several = {"a.JPG": ["CC-BY-4.0", "MIT OR Apache-2.0"], "b.png": ["MIT"], "sub/c.webp": []}
    write(folder, *({"file_name": key, "licence": known} for key, known in several.items()))
    assert [sample.licence for sample in read_folder(folder)] == [
        "CC-BY-4.0 AND (MIT OR Apache-2.0)",
        "MIT",
        None,
    ]


def test_an_opt_out_is_true_or_says_of_what(folder: Path) -> None:
    uses = {"cawg.data_mining": "notAllowed"}
    said = {"a.JPG": True, "b.png": uses, "sub/c.webp": False}
    write(folder, *({"file_name": key, "opt_out": value} for key, value in said.items()))
    assert [s.opt_out for s in read_folder(folder)] == [{"declared": "notAllowed"}, uses, None]


def test_only_line_feeds_end_a_line(folder: Path) -> None:
    """Captions from the web hold other separators, which JSON takes as they are."""
    text = "sea\u2028and\u2029sky\x85"
    row = json.dumps({"file_name": "b.png", "text": text}, ensure_ascii=False)
    (folder / "metadata.jsonl").write_bytes(f"{row}\r\n".encode())
    assert read_folder(folder) == [Sample("b.png", text)]


@pytest.mark.parametrize(("row", "told"), [
    ("{", "metadata.jsonl:2: not an object with a file_name"),
    ([], "not an object with a file_name"),
    ({"text": "sea"}, "not an object with a file_name"),
    ({"file_name": "none.png"}, "none.png does not exist"),
    ({"file_name": "../outside.png"}, "lies outside the folder"),
    ({"file_name": "/"}, "lies outside the folder"),
    ({"file_name": "x" * 5000}, "cannot be opened"),
    ({"file_name": "a.JPG"}, "a.JPG is listed twice"),
    ({"file_name": "b.png", "creator": 3}, "creator must be a string"),
    ({"file_name": "b.png", "text": "\0"}, "text holds a character that cannot be stored"),
    ({"file_name": "b.png", "text": "\ud800"}, "text holds a character that cannot be stored"),
    ({"file_name": "b.png", "licence": ["MIT", 3]}, "licence must be a string"),
    ({"file_name": "b.png", "opt_out": "yes"}, "opt_out must be true, false or an object"),
    ({"file_name": "b.png", "opt_out": {"a": 1}}, "opt_out must be true, false or an object"),
    ({"file_name": "b.png", "seed": -1}, "seed must be a whole number"),
    ({"file_name": "b.png", "seed": True}, "seed must be a whole number"),
    ({"file_name": "b.png", "seed": 2**63}, "seed must be a whole number"),
])  # fmt: skip
def test_a_faulty_line_is_named(folder: Path, row: object, told: str) -> None:
    write(folder, {"file_name": "a.JPG"}, row)
    with pytest.raises(ImageDataError, match=told):
        read_folder(folder)


def test_folders_without_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageDataError, match="holds no images"):
        read_folder(tmp_path)
    with pytest.raises(ImageDataError, match="is not a folder"):
        read_folder(tmp_path / "none")
    (tmp_path / "metadata.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(ImageDataError, match="is not UTF-8"):
        read_folder(tmp_path)


def test_links_out_of_the_folder_are_refused(folder: Path) -> None:
    (folder / "sub" / "out.png").symlink_to(folder.parent / "outside.png")
    with pytest.raises(ImageDataError, match=r"sub/out\.png: it lies outside the folder"):
        read_folder(folder)


def test_usual_other_names_are_understood(folder: Path) -> None:
    write(folder, {"file_name": "b.png", "caption": "sea", "license": "MIT"})
    assert read_folder(folder) == [Sample("b.png", "sea", licence="MIT")]
    write(folder, {"file_name": "b.png", "caption": "sea", "text": "sky", "label": 3})
    assert read_folder(folder) == [Sample("b.png", "sky")]
    write(folder, {"file_name": "b.png", "label": 3})
    assert read_folder(folder) == [Sample("b.png", "3")]


def test_a_field_may_have_the_users_name(folder: Path) -> None:
    write(folder, {"file_name": "b.png", "artist": "Ada", "creator": "x"}, {"file_name": "a.JPG"})
    data = open_image_data(folder, {"creator": "artist"})
    assert listed(data)[0] == [Sample("a.JPG"), Sample("b.png", creator="Ada")]
    with pytest.raises(ImageDataError, match="no image has painter"):
        listed(open_image_data(folder, {"creator": "painter"}))


def test_what_is_refused_can_be_left_out(folder: Path) -> None:
    write(folder, "{", {"file_name": "b.png"}, {"file_name": "none.png"})
    samples, refused = listed(open_image_data(folder), skip=True)
    assert samples == [Sample("b.png")]
    assert [one.what for one in refused] == ["metadata.jsonl:1", "metadata.jsonl:3"]
    assert refused[1].reason == "none.png does not exist"
    write(folder, "{", "[]")
    with pytest.raises(ImageDataError, match=r"no images that can be used: metadata\.jsonl:1"):
        listed(open_image_data(folder), skip=True)


def test_a_file_is_read_only_inside_the_folder(folder: Path) -> None:
    data = open_image_data(folder)
    assert data.read(Sample("b.png")) == (folder / "b.png").read_bytes()
    (folder / "b.png").unlink()
    (folder / "b.png").symlink_to(folder.parent / "outside.png")
    for key in ("b.png", "../outside.png", "none.png"):
        with pytest.raises(FileNotFoundError):
            data.read(Sample(key))
