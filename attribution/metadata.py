"""Training images as users have them: a folder, with or without ``metadata.jsonl``.

The metadata follows the image-folder convention of Hugging Face datasets: one JSON object a line
with ``file_name`` (relative to the folder) and, all optional, ``text``, ``creator``,
``creator_uri``, ``licence`` (SPDX; a list where all of several hold), ``source``, ``opt_out``
(true, or which uses are not allowed) and, for pictures that a model has drawn, ``seed``.  Nothing
here opens an image or imports torch: the API reads folders too.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from attribution.errors import InputError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
METADATA = "metadata.jsonl"
OWNER_FIELDS = ("text", "creator", "licence", "source", "creator_uri")
DECLARED = {"declared": "notAllowed"}


class ImageFolderError(InputError):
    """The folder cannot be used as it is; the message says which file and why."""


@dataclass(frozen=True)
class Sample:
    """One image: ``key`` is its path relative to the folder, and seeds its noise.

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


def read_folder(root: Path) -> list[Sample]:
    """The samples of a folder, sorted by key: the order of every index over it."""
    if not root.is_dir():
        raise ImageFolderError(f"{root} is not a folder")
    metadata = root / METADATA
    samples = _read_metadata(metadata) if metadata.is_file() else _find_images(root)
    if not samples:
        raise ImageFolderError(f"{root} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return sorted(samples, key=lambda sample: sample.key)


def _find_images(root: Path) -> list[Sample]:
    samples = [
        Sample(path.relative_to(root).as_posix())
        for path in root.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
    ]
    for sample in samples:
        _must_be_storable(sample.key, f"{root}: a file name")
        if not (root / sample.key).resolve().is_relative_to(root.resolve()):
            raise ImageFolderError(f"{root}: {sample.key} lies outside the folder")
    return samples


def _read_metadata(path: Path) -> list[Sample]:
    samples: dict[str, Sample] = {}
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ImageFolderError(f"{path} is not UTF-8: {error}") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            sample = _read_row(line, path.parent.resolve(), f"{path}:{number}")
            if sample.key in samples:
                raise ImageFolderError(f"{path}:{number}: {sample.key} is listed twice")
            samples[sample.key] = sample
    return list(samples.values())


def _read_row(line: str, root: Path, where: str) -> Sample:
    try:
        row = json.loads(line)
        key = Path(row["file_name"]).as_posix()
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ImageFolderError(f"{where}: not an object with a file_name ({error})") from error
    _must_be_storable(key, f"{where}: file_name")
    try:
        file = (root / key).resolve()
        exists = file.is_file()
    except (OSError, RuntimeError) as error:  # too long a name, links in a circle
        raise ImageFolderError(f"{where}: {key} cannot be opened") from error
    if not file.is_relative_to(root):
        raise ImageFolderError(f"{where}: {key} lies outside the folder")
    if not exists:
        raise ImageFolderError(f"{where}: {key} does not exist")
    owner = {field: row.get(field) for field in OWNER_FIELDS}
    owner["licence"] = _all_of(owner["licence"])
    for field, value in owner.items():
        if value is not None and not isinstance(value, str):
            raise ImageFolderError(f"{where}: {field} must be a string")
        _must_be_storable(value or "", f"{where}: {field}")
    seed = row.get("seed")
    if seed is not None and (type(seed) is not int or not 0 <= seed < 2**63):
        raise ImageFolderError(f"{where}: seed must be a whole number in 0..2^63-1")
    return Sample(key, **owner, opt_out=_opt_out(row.get("opt_out"), where), seed=seed)


def _all_of(licences: object) -> object:
    """One expression of a list of them: not knowing better, every one must be kept."""
    if isinstance(licences, list) and all(isinstance(one, str) and one for one in licences):
        several = [f"({one})" if " " in one else one for one in licences]
        return " AND ".join(several) if len(licences) > 1 else next(iter(licences), None)
    return licences


def _opt_out(value: object, where: str) -> dict[str, str] | None:
    if value is None or value is False:
        return None
    if value is True:
        return DECLARED
    if not isinstance(value, dict) or not all(isinstance(use, str) for use in value.values()):
        raise ImageFolderError(f"{where}: opt_out must be true, false or an object of strings")
    _must_be_storable(json.dumps(value, ensure_ascii=False), f"{where}: opt_out")
    return value or None


def _must_be_storable(text: str, what: str) -> None:
    """Databases keep neither NUL nor half a UTF-16 pair, which JSON can spell."""
    if re.search("[\0\ud800-\udfff]", text):
        raise ImageFolderError(f"{what} holds a character that cannot be stored")
