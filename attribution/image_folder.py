"""Training images as users have them: a folder, with or without ``metadata.jsonl``.

The metadata follows the image-folder convention of Hugging Face datasets: one JSON object a line
with ``file_name`` (relative to the folder) and, all optional, ``text``, ``creator``, ``licence``
(SPDX) and ``source``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
METADATA = "metadata.jsonl"


class ImageFolderError(ValueError):
    """The folder cannot be used as it is; the message says which file and why."""


@dataclass(frozen=True)
class Sample:
    """One training image: ``key`` is its path relative to the folder, and seeds its noise."""

    key: str
    text: str | None = None
    creator: str | None = None
    licence: str | None = None
    source: str | None = None


class ImageFolder:
    """The samples of a folder, sorted by key; pixels are read only when asked for."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise ImageFolderError(f"{self.root} is not a folder")
        metadata = self.root / METADATA
        found = (
            read_metadata(metadata)
            if metadata.is_file()
            else [
                Sample(path.relative_to(self.root).as_posix())
                for path in self.root.rglob("*")
                if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
            ]
        )
        if not found:
            raise ImageFolderError(f"{self.root} holds no images ({', '.join(IMAGE_SUFFIXES)})")
        self.samples = sorted(found, key=lambda sample: sample.key)

    def __len__(self) -> int:
        return len(self.samples)

    def image(self, i: int) -> Image.Image:
        """Decode sample ``i`` as RGB."""
        return read_image(self.root / self.samples[i].key)

    def tensor(self, i: int, size: int) -> torch.Tensor:
        """Pixels of sample ``i`` in [-1, 1], ``(3, size, size)``."""
        return pixels(self.image(i), size)


def read_metadata(path: Path) -> list[Sample]:
    """Parse ``metadata.jsonl``, checking that every file lies inside the folder and exists."""
    root = path.parent.resolve()
    samples: dict[str, Sample] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            row = json.loads(line)
            key = Path(row["file_name"]).as_posix()
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ImageFolderError(f"{where}: not an object with a file_name ({error})") from error
        file = (root / key).resolve()
        if not file.is_relative_to(root):
            raise ImageFolderError(f"{where}: {key} lies outside the folder")
        if not file.is_file():
            raise ImageFolderError(f"{where}: {key} does not exist")
        if key in samples:
            raise ImageFolderError(f"{where}: {key} is listed twice")
        sample = Sample(key)
        for field in ("text", "creator", "licence", "source"):
            value = row.get(field)
            if value is not None and not isinstance(value, str):
                raise ImageFolderError(f"{where}: {field} must be a string")
            sample = replace(sample, **{field: value})
        samples[key] = sample
    return list(samples.values())


def read_image(path: Path) -> Image.Image:
    """Decode a file as RGB, transparency on white; a broken file is named in the error."""
    try:
        with Image.open(path) as image:
            return as_rgb(image)
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise ImageFolderError(f"{path} cannot be read as an image: {error}") from error


def as_rgb(image: Image.Image) -> Image.Image:
    """RGB, with transparent parts shown on white, as a viewer would see them."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        ground = Image.new("RGBA", rgba.size, "white")
        ground.alpha_composite(rgba)
        return ground.convert("RGB")
    return image.convert("RGB")


def pixels(image: Image.Image, size: int, channels: int = 3) -> torch.Tensor:
    """An image as the denoiser sees it: ``(channels, size, size)`` in [-1, 1]."""
    prepared = image.convert("L" if channels == 1 else "RGB")
    if prepared.size != (size, size):
        prepared = prepared.resize((size, size), Image.Resampling.LANCZOS)
    array = np.asarray(prepared, dtype=np.float32)
    if channels == 1:
        array = array[..., None]
    return cast(torch.Tensor, torch.from_numpy(array / 127.5 - 1).permute(2, 0, 1).contiguous())
