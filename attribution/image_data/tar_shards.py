"""WebDataset: tar archives in which files of one name belong to one image.

``0001.jpg`` is the picture, ``0001.json`` says what a line of ``metadata.jsonl`` says elsewhere,
``0001.txt`` is its caption.  Archives are read where they lie: an image is a range of bytes.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from attribution.image_data.sample import (
    IMAGE_SUFFIXES,
    Columns,
    FaultError,
    ImageDataError,
    Located,
    Place,
    Refused,
    Sample,
    below,
    printable,
)

LONGEST_METADATA = 1_000_000  # bytes


class TarShards:
    """Images in uncompressed tar archives; a key is ``archive/member``."""

    form: Final = "webdataset"

    def __init__(self, root: Path, files: Sequence[str], fields: Mapping[str, str] | None) -> None:
        """``files`` are relative to ``root``."""
        self.root, self.files = root, files
        self.columns = Columns(fields)

    def entries(self) -> Iterator[Sample | Refused]:
        """Every image, in the order of the archives and of what is in them."""
        for file in self.files:
            yield from self._archive(file)

    def read(self, image: Located) -> bytes:
        """The member's content; an ``OSError`` if the archive does not hold it any more."""
        place = image.place
        if place is None:
            raise FileNotFoundError(2, "its place is unknown", image.key)
        with below(self.root, place.file).open("rb") as archive:
            return _range(archive, place, image.key)

    def _archive(self, file: str) -> Iterator[Sample | Refused]:
        path = below(self.root, file)
        size, seen = path.stat().st_size, set()
        group, members = "", dict[str, Place]()
        try:
            with path.open("rb") as content, tarfile.open(fileobj=content, mode="r:") as archive:
                for member in archive:
                    archive.members = []  # type: ignore[attr-defined]  # they would grow
                    if not member.isreg():
                        continue
                    name, extension = _split(member.name)
                    if member.offset_data + member.size > size:
                        yield Refused(f"{file}/{member.name}", "the archive ends inside of it")
                        break
                    if name != group:
                        yield from self._sample(file, group, members, path)
                        group, members = name, {}
                    if f"{name}.{extension}" in seen:
                        yield Refused(f"{file}/{member.name}", "it is in the archive twice")
                        continue
                    seen.add(f"{name}.{extension}")
                    members[extension] = Place(file, member.offset_data, member.size)
        except tarfile.TarError as error:
            if not seen:
                raise ImageDataError(f"{path} is no uncompressed tar archive: {error}") from error
            yield Refused(file, f"the archive is damaged behind {group}: {error}")
        yield from self._sample(file, group, members, path)

    def _sample(
        self, file: str, group: str, members: dict[str, Place], path: Path
    ) -> Iterator[Sample | Refused]:
        pictures = [kind for kind in members if f".{kind.lower()}" in IMAGE_SUFFIXES]
        if not pictures:
            return  # no image: a README, a model's latents
        key = f"{file}/{group}.{pictures[0]}"
        try:
            with path.open("rb") as archive:
                row = _row(archive, members)
            yield self.columns.sample(key, row, members[pictures[0]])
        except FaultError as fault:
            yield Refused(printable(key), str(fault))


def _split(name: str) -> tuple[str, str]:
    """What a member belongs to, and what it is: ``a/1.seg.png`` is the ``seg.png`` of ``a/1``."""
    folder, slash, file = name.removeprefix("./").rpartition("/")
    stem, _, extension = file.partition(".")
    return folder + slash + stem, extension


def _row(archive: BinaryIO, members: Mapping[str, Place]) -> dict[str, object]:
    row: dict[str, object] = {}
    if place := members.get("txt"):
        row["text"] = _text(archive, place, "txt").strip()
    if place := members.get("json"):
        try:
            said = json.loads(_text(archive, place, "json"))
        except (ValueError, RecursionError) as error:
            raise FaultError(f"its json cannot be read ({error})") from error
        if not isinstance(said, dict):
            raise FaultError("its json is not an object")
        row |= said
    return row


def _text(archive: BinaryIO, place: Place, what: str) -> str:
    if place.size > LONGEST_METADATA:
        raise FaultError(f"its {what} is longer than {LONGEST_METADATA} bytes")
    try:
        return _range(archive, place, what).decode()
    except UnicodeDecodeError as error:
        raise FaultError(f"its {what} is not UTF-8") from error


def _range(archive: BinaryIO, place: Place, what: str) -> bytes:
    archive.seek(place.offset)
    content = archive.read(place.size)
    if len(content) < place.size:
        raise FileNotFoundError(2, "the archive has become shorter", what)
    return content
