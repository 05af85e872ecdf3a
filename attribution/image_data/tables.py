"""Tables with a column of images: Parquet files, and what ``Dataset.save_to_disk`` writes.

A row's other columns say what a line of ``metadata.jsonl`` says elsewhere.  Numbers of classes
become their names where the file knows them.
"""

from __future__ import annotations

import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from attribution.image_data.sample import (
    Columns,
    FaultError,
    ImageDataError,
    Located,
    Refused,
    Sample,
    below,
)

USUAL_NAMES = ("image", "img", "jpg", "jpeg", "png", "webp", "bytes", "content")
ROWS_AT_ONCE = 1024
FILES_OPEN = 16
ROW_GROUPS_IN_MEMORY = 2


class Tables(ABC):
    """Images in rows; a key is ``file/row``, the row with leading zeros."""

    def __init__(self, root: Path, files: Sequence[str], fields: Mapping[str, str] | None) -> None:
        """``files`` are relative to ``root``; only entries need them."""
        self.root, self.files = root, files
        self.columns = Columns(fields)
        self._reading = threading.Lock()

    def entries(self) -> Iterator[Sample | Refused]:
        """Every row, in the order of the files; the images themselves are not read."""
        for file in self.files:
            for number, row in enumerate(self._rows(file)):
                key = f"{file}/{number:08}"
                try:
                    yield self.columns.sample(key, row)
                except FaultError as fault:
                    yield Refused(key, str(fault))

    def read(self, image: Located) -> bytes:
        """The image of a row; an ``OSError`` if there is none."""
        file, _, row = image.key.rpartition("/")
        if not row.isdecimal():
            raise FileNotFoundError(2, "no such row", image.key)
        with self._reading:
            found = self._image(file, int(row))
        content = found.get("bytes") if isinstance(found, dict) else found
        if not isinstance(content, bytes):
            raise FileNotFoundError(2, "the row holds no image", image.key)
        return content

    @abstractmethod
    def _rows(self, file: str) -> Iterator[dict[str, Any]]:
        """What is said of each image."""

    @abstractmethod
    def _image(self, file: str, row: int) -> object:
        """The value in the column of images."""

    def _described(self, schema: pa.Schema, file: str) -> list[str]:
        """The columns to read, besides the images."""
        names = {name for column in self.columns.names.values() for name in column}
        return [name for name in schema.names if name in names - {image_column(schema, file)}]


class Parquet(Tables):
    """Parquet files.  An image is read with the row group that it is in."""

    form: Final = "parquet"

    def __init__(self, root: Path, files: Sequence[str], fields: Mapping[str, str] | None) -> None:
        """``files`` are relative to ``root``."""
        super().__init__(root, files, fields)
        self._opened = lru_cache(FILES_OPEN)(self._open)
        self._group = lru_cache(ROW_GROUPS_IN_MEMORY)(self._read_group)

    def _open(self, file: str) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(below(self.root, file))
        except pa.ArrowException as error:
            raise ImageDataError(f"{self.root / file} is no Parquet file: {error}") from error

    def _rows(self, file: str) -> Iterator[dict[str, Any]]:
        opened = self._opened(file)
        columns = self._described(opened.schema_arrow, file)
        classes = class_names(opened.schema_arrow)
        if not columns:
            yield from ({} for _ in range(opened.metadata.num_rows))
            return
        for batch in opened.iter_batches(ROWS_AT_ONCE, columns=columns):
            yield from (named(row, classes) for row in batch.to_pylist())

    def _image(self, file: str, row: int) -> object:
        metadata = self._opened(file).metadata
        for group in range(metadata.num_row_groups):
            rows = metadata.row_group(group).num_rows
            if row < rows:
                return self._group(file, group)[row].as_py()
            row -= rows
        return None

    def _read_group(self, file: str, group: int) -> pa.ChunkedArray:
        opened = self._opened(file)
        column = image_column(opened.schema_arrow, file)
        return opened.read_row_group(group, columns=[column]).column(column)


class SavedDataset(Tables):
    """What Hugging Face's ``save_to_disk`` writes: mapped into memory, not read."""

    form: Final = "saved"

    def __init__(self, root: Path, files: Sequence[str], fields: Mapping[str, str] | None) -> None:
        """``files`` are relative to ``root``."""
        super().__init__(root, files, fields)
        self._opened = lru_cache(FILES_OPEN)(self._open)

    def _open(self, file: str) -> pa.Table:
        try:
            return pa.ipc.open_stream(pa.memory_map(str(below(self.root, file)))).read_all()
        except pa.ArrowException as error:
            raise ImageDataError(f"{self.root / file} cannot be read: {error}") from error

    def _rows(self, file: str) -> Iterator[dict[str, Any]]:
        table = self._opened(file)
        columns, classes = self._described(table.schema, file), class_names(table.schema)
        if not columns:
            yield from ({} for _ in range(table.num_rows))
            return
        for batch in table.select(columns).to_batches(ROWS_AT_ONCE):
            yield from (named(row, classes) for row in batch.to_pylist())

    def _image(self, file: str, row: int) -> object:
        table = self._opened(file)
        if row >= table.num_rows:
            return None
        return table.column(image_column(table.schema, file))[row].as_py()


def saved_files(root: Path) -> list[str]:
    """The data files of a saved dataset or of each of its splits, relative to ``root``."""
    described = root / "dataset_dict.json"
    splits = json.loads(described.read_bytes())["splits"] if described.is_file() else ["."]
    files = []
    for split in splits:
        state = json.loads((root / split / "state.json").read_bytes())
        files += [(Path(split) / part["filename"]).as_posix() for part in state["_data_files"]]
    return files


def image_column(schema: pa.Schema, file: str) -> str:
    """Which column has the images: the one that says so, or else one that looks like it."""
    said = [name for name, kind in _features(schema).items() if kind.get("_type") == "Image"]
    looks = [field.name for field in schema if _holds_bytes(field.type)]
    usual = [name for name in USUAL_NAMES if name in looks]
    found = [name for name in said if name in schema.names] or usual or looks
    if not found:
        raise ImageDataError(f"{file}: none of its columns ({', '.join(schema.names)}) has images")
    return found[0]


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(field.type) for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """The names of the classes, by column."""
    return {
        name: kind["names"]
        for name, kind in _features(schema).items()
        if kind.get("_type") == "ClassLabel" and isinstance(kind.get("names"), list)
    }


def named(row: dict[str, Any], classes: Mapping[str, list[str]]) -> dict[str, Any]:
    """A row with names of classes in place of their numbers."""
    for column, names in classes.items():
        number = row.get(column)
        if isinstance(number, int):
            row[column] = names[number] if 0 <= number < len(names) else None
    return row


def _features(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """What Hugging Face datasets writes about columns into a file's schema."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    return {name: kind for name, kind in features.items() if isinstance(kind, dict)}
