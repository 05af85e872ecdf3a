"""An image folder, with or without ``metadata.jsonl``.

The metadata follows the convention of Hugging Face datasets: one JSON object a line with
``file_name`` (relative to the folder) and, all optional, ``text``, ``creator``, ``creator_uri``,
``licence`` (SPDX; a list where all of several hold), ``source``, ``opt_out`` (true, or which uses
are not allowed) and, for pictures that a model has drawn, ``seed``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from attribution.image_data.sample import (
    Columns,
    FaultError,
    ImageDataError,
    Located,
    Refused,
    Sample,
    below,
    printable,
)

METADATA = "metadata.jsonl"


class Folder:
    """Images as files; a key is a path relative to the folder."""

    form: Final = "folder"

    def __init__(self, root: Path, files: Sequence[str], fields: Mapping[str, str] | None) -> None:
        """``files`` are the images, where no metadata lists them."""
        self.root, self.files = root, files
        self._resolved = root.resolve()
        self.columns = Columns(fields)

    def entries(self) -> Iterator[Sample | Refused]:
        """Every image, read from the metadata line by line, or else found."""
        metadata = self.root / METADATA
        return self._described(metadata) if metadata.is_file() else self._found()

    def read(self, image: Located) -> bytes:
        """The file's content; an ``OSError`` if there is none any more."""
        return below(self.root, image.key).read_bytes()

    def _found(self) -> Iterator[Sample | Refused]:
        for key in self.files:
            try:
                if not (self.root / key).resolve().is_relative_to(self._resolved):
                    raise FaultError("it lies outside the folder")
                yield self.columns.sample(key, {})
            except FaultError as fault:
                yield Refused(printable(key), str(fault))

    def _described(self, metadata: Path) -> Iterator[Sample | Refused]:
        seen: set[str] = set()
        try:
            with metadata.open(encoding="utf-8", newline="\n") as lines:
                for number, line in enumerate(lines, start=1):
                    if not line.strip():
                        continue
                    try:
                        sample = self._sample(line)
                        if sample.key in seen:
                            raise FaultError(f"{sample.key} is listed twice")
                        seen.add(sample.key)
                        yield sample
                    except FaultError as fault:
                        yield Refused(f"{METADATA}:{number}", str(fault))
        except UnicodeDecodeError as error:
            raise ImageDataError(f"{metadata} is not UTF-8: {error}") from error

    def _sample(self, line: str) -> Sample:
        try:
            row = json.loads(line)
            key = Path(row["file_name"]).as_posix()
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise FaultError(f"not an object with a file_name ({error})") from error
        sample = self.columns.sample(key, row)
        try:
            file = (self.root / key).resolve()
            exists = file.is_file()
        except (OSError, RuntimeError) as error:  # too long a name, links in a circle
            raise FaultError(f"{key} cannot be opened") from error
        if not file.is_relative_to(self._resolved):
            raise FaultError(f"{key} lies outside the folder")
        if not exists:
            raise FaultError(f"{key} does not exist")
        return sample
