"""Finding out in which form training images are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, Protocol

from attribution.image_data.folder import METADATA, Folder
from attribution.image_data.sample import (
    IMAGE_SUFFIXES,
    Columns,
    ImageDataError,
    Located,
    Refused,
    Sample,
)
from attribution.image_data.tar_shards import TarShards

Form = Literal["folder", "webdataset", "parquet", "saved"]

SUFFIXES: Final[dict[str, Form]] = {
    **dict.fromkeys(sorted(IMAGE_SUFFIXES), "folder"),
    ".tar": "webdataset",
    ".parquet": "parquet",
}
SAVED = ("state.json", "dataset_dict.json")
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip")


class ImageData(Protocol):
    """Training images as they lie on disk."""

    root: Path
    columns: Columns

    @property
    def form(self) -> Form:
        """What they lie in."""

    def entries(self) -> Iterator[Sample | Refused]:
        """Every image, or why it cannot be used, one after the other."""

    def read(self, image: Located) -> bytes:
        """The file of an image; an ``OSError`` if it is gone."""


def open_image_data(path: Path, fields: Mapping[str, str] | None = None) -> ImageData:
    """The images behind a path: a folder of one form of data, or a single tar or Parquet file.

    ``fields`` says under which name the data has what (``{"creator": "artist"}``).
    """
    if path.is_file():
        form = SUFFIXES.get(path.suffix.lower(), "folder")
        if form == "folder":
            raise ImageDataError(f"{path} is neither a .tar nor a .parquet file{_hint(path)}")
        return _reader(form, path.parent, [path.name], fields)
    if not path.is_dir():
        raise ImageDataError(f"{path} is not a folder, nor a .tar or .parquet file")
    if (path / METADATA).is_file():
        return _reader("folder", path, [], fields)
    if any((path / name).is_file() for name in SAVED):
        return _reader("saved", path, _saved_files(path), fields)
    found = _by_form(path)
    if len(found) > 1:
        raise ImageDataError(
            f"{path} holds {' and '.join(sorted(found))} files: give it a {METADATA} that lists"
            " the images, or use one kind by itself"
        )
    if not found:
        raise ImageDataError(
            f"{path} holds no images ({', '.join(SUFFIXES)}){''.join(map(_hint, path.iterdir()))}"
        )
    (form, files), *_ = found.items()
    return _reader(form, path, sorted(files), fields)


def reopen(form: Form, path: Path) -> ImageData:
    """The data of a known form, to read images of which the samples are known."""
    return _reader(form, path if path.is_dir() else path.parent, [])


def listed(data: ImageData, *, skip: bool = False) -> tuple[list[Sample], list[Refused]]:
    """The samples by key, the order of every index, and what was refused.

    Without ``skip`` the first refusal is an error.
    """
    samples, refused = [], []
    for entry in data.entries():
        if isinstance(entry, Sample):
            samples.append(entry)
        elif skip:
            refused.append(entry)
        else:
            raise ImageDataError(f"{data.root / entry.what}: {entry.reason}")
    if not samples:
        told = f": {refused[0]}" if refused else ""
        raise ImageDataError(f"{data.root} holds no images that can be used{told}")
    if data.columns.unseen:
        raise ImageDataError(f"{data.root}: no image has {', '.join(sorted(data.columns.unseen))}")
    return sorted(samples, key=lambda sample: sample.key), refused


def _reader(
    form: Form, root: Path, files: Sequence[str], fields: Mapping[str, str] | None = None
) -> ImageData:
    match form:
        case "folder":
            return Folder(root, files, fields)
        case "webdataset":
            return TarShards(root, files, fields)
    # pyarrow takes a while to import.
    from attribution.image_data.tables import Parquet, SavedDataset

    return (Parquet if form == "parquet" else SavedDataset)(root, files, fields)


def _by_form(root: Path) -> dict[Form, list[str]]:
    found: dict[Form, list[str]] = {}
    for path in root.rglob("*"):
        form = SUFFIXES.get(path.suffix.lower())
        if form is not None and path.is_file():
            found.setdefault(form, []).append(path.relative_to(root).as_posix())
    return found


def _saved_files(root: Path) -> list[str]:
    from attribution.image_data.tables import saved_files

    try:
        return saved_files(root)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ImageDataError(f"{root} is no dataset that was saved whole: {error}") from error


def _hint(path: Path) -> str:
    return f"; unpack {path.name} first" if path.name.lower().endswith(COMPRESSED) else ""
