"""A training image: where it lies, and what is said of it and its owner."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from attribution.errors import InputError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
"""What these files may be, by Pillow's names; nothing else is opened, whatever its suffix."""

OWNER_FIELDS = ("text", "creator", "licence", "source", "creator_uri")
FIELDS = (*OWNER_FIELDS, "opt_out", "seed")
ALIASES = {"text": ("text", "caption", "label"), "licence": ("licence", "license")}
DECLARED = {"declared": "notAllowed"}


class ImageDataError(InputError):
    """The images cannot be used as they are; the message says which file and why."""


class Place(NamedTuple):
    """The bytes of an image inside an archive: ``file`` is relative, as keys are."""

    file: str
    offset: int
    size: int


class Located(Protocol):
    """What is needed to read an image: a ``Sample``, or a row that was made of one."""

    @property
    def key(self) -> str:
        """Names the image within its data."""

    @property
    def place(self) -> Place | None:
        """Where it lies, if the key does not say."""


@dataclass(frozen=True)
class Sample:
    """One image: ``key`` names it within its data, seeds its noise and sorts the rows of an index.

    ``opt_out`` says of each use that its creator does not want how that was said.
    ``seed`` is that of the drawing, where the model has drawn it (Journey TRAK draws it again).
    """

    key: str
    text: str | None = None
    creator: str | None = None
    licence: str | None = None
    source: str | None = None
    creator_uri: str | None = None
    opt_out: dict[str, str] | None = None
    seed: int | None = None
    place: Place | None = None


@dataclass(frozen=True)
class Refused:
    """An image that cannot be used: which (its key, a line of a file), and why."""

    what: str
    reason: str

    def __str__(self) -> str:
        """In one line."""
        return f"{self.what}: {self.reason}"


class FaultError(Exception):
    """What is wrong with one image."""


def below(root: Path, file: str) -> Path:
    """A file's path, which must lie inside ``root`` also where links lead."""
    path = (root / file).resolve()
    if not path.is_relative_to(root.resolve()):
        raise FileNotFoundError(2, "it lies outside the folder", file)
    return path


def printable(name: str) -> str:
    """A name that a report can hold, whatever bytes the file system has in it."""
    return name.encode(errors="replace").decode().replace("\0", "?")


class Columns:
    """Where each field of a sample is found: as the user says, or else by its usual names."""

    def __init__(self, fields: Mapping[str, str] | None) -> None:
        """``fields`` are the user's: ``{"creator": "artist"}``."""
        said = fields or {}
        self.unseen = set(said.values())
        """Those of the user's names that no row has had so far."""
        self.names = {
            field: (said[field],) if field in said else ALIASES.get(field, (field,))
            for field in FIELDS
        }

    def sample(self, key: str, row: Mapping[str, Any], place: Place | None = None) -> Sample:
        """What a row of metadata describes; a ``FaultError`` says what is wrong with it."""
        if self.unseen:
            self.unseen -= row.keys()
        must_be_storable(key, "its name")
        said = {
            field: next((row[name] for name in names if row.get(name) is not None), None)
            for field, names in self.names.items()
        }
        if type(said["text"]) is int:
            said["text"] = str(said["text"])  # a class without a name
        said["licence"] = _all_of(said["licence"])
        for field in OWNER_FIELDS:
            value = said[field]
            if value is not None and not isinstance(value, str):
                raise FaultError(f"{field} must be a string")
            must_be_storable(value or "", field)
        seed = said["seed"]
        if seed is not None and (type(seed) is not int or not 0 <= seed < 2**63):
            raise FaultError("seed must be a whole number in 0..2^63-1")
        said["opt_out"] = _opt_out(said["opt_out"])
        return Sample(key, **said, place=place)


def must_be_storable(text: str, what: str) -> None:
    """Databases keep neither NUL nor half a UTF-16 pair, which JSON can spell."""
    if re.search("[\0\ud800-\udfff]", text):
        raise FaultError(f"{what} holds a character that cannot be stored")


def _all_of(licences: object) -> object:
    """One expression of a list of them: not knowing better, every one must be kept."""
    if isinstance(licences, list) and all(isinstance(one, str) and one for one in licences):
        several = [f"({one})" if " " in one else one for one in licences]
        return " AND ".join(several) if len(licences) > 1 else next(iter(licences), None)
    return licences


def _opt_out(value: object) -> dict[str, str] | None:
    if value is None or value is False:
        return None
    if value is True:
        return DECLARED
    if isinstance(value, dict):
        # Tables have every column in every row.
        value = {use: said for use, said in value.items() if said is not None}
    if not isinstance(value, dict) or not all(isinstance(use, str) for use in value.values()):
        raise FaultError("opt_out must be true, false or an object of strings")
    must_be_storable(json.dumps(value, ensure_ascii=False), "opt_out")
    return value or None
