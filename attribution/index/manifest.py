"""The manifest: what an index version is, written last, so that a version that has it is whole."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

from attribution.errors import InputError
from attribution.index.config import IndexConfig

FORMAT = 6
MANIFEST = "manifest.json"


class IndexFormatError(InputError):
    """The directory is no complete index version, or has changed since it was written."""


@dataclass(frozen=True)
class Manifest:
    """Facts of one version; equal builds have equal manifests, so it carries no date.

    ``identity`` names model, data and configuration, ``model_digest`` the model alone; ``samples``
    n, ``groups`` G, ``outputs`` m, ``dimension`` k; ``dampings`` the absolute λ of each group's
    kernel and ``degrees_of_freedom`` what it leaves (empty without kernels); ``files`` the SHA-256
    of each file.
    """

    config: IndexConfig
    identity: str
    model_digest: str
    clip_digest: str
    samples: int
    groups: int
    outputs: int
    dimension: int
    dampings: list[float]
    degrees_of_freedom: list[float]
    files: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"format": FORMAT, **asdict(self)}

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest's canonical JSON: the version's name."""
        canonical = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def write(self, directory: Path) -> None:
        """Write ``manifest.json``, whole or not at all."""
        text = json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"
        write_atomically(directory / MANIFEST, text.encode())

    @classmethod
    def read(cls, directory: Path) -> Manifest:
        """Read a version's manifest; an unfinished or foreign directory is an error."""
        try:
            values = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise IndexFormatError(f"{directory} holds no finished index") from None
        except json.JSONDecodeError as error:
            raise IndexFormatError(f"{directory / MANIFEST} is not JSON: {error}") from error
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
            raise IndexFormatError(f"{directory} was written in another format; rebuild it")
        try:
            return cls(**{**values, "config": IndexConfig.from_dict(values["config"])})
        except (KeyError, TypeError) as error:
            raise IndexFormatError(f"{directory / MANIFEST} lacks a field: {error}") from error

    def verify(self, directory: Path) -> None:
        """Check every file against its checksum."""
        for name, expected in self.files.items():
            file = directory / name
            if not file.is_file() or file_digest(file) != expected:
                raise IndexFormatError(f"{file} is missing or damaged; rebuild the index")


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_digest(directory: Path, pattern: str) -> str:
    """SHA-256 over the weight files that ``pattern`` finds in a model's directory, by name."""
    digest = hashlib.sha256()
    for file in sorted(directory.glob(pattern)):
        digest.update(f"{file.relative_to(directory).as_posix()}\0{file_digest(file)}\n".encode())
    return digest.hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""
    with atomic_file(path) as file:
        file.write(content)


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Write under a temporary name of one's own; at the end flush to disk and rename."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
