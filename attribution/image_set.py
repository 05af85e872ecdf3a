"""The pixels of training images, read when they are asked for."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from attribution.image_data.opening import listed, open_image_data
from attribution.image_data.sample import IMAGE_FORMATS, ImageDataError


class ImageSet:
    """The samples behind a path, sorted by key; pixels are read only when asked for."""

    def __init__(
        self,
        root: Path | str,
        fields: Mapping[str, str] | None = None,
        *,
        skip_refused: bool = False,
    ) -> None:
        """``fields`` and what is refused: ``open_image_data`` and ``listed``."""
        self.root = Path(root)
        self.data = open_image_data(self.root, fields)
        self.samples, self.refused = listed(self.data, skip=skip_refused)
        self.content = ""

    def __len__(self) -> int:
        return len(self.samples)

    def leave_out(self, keys: Collection[str]) -> None:
        """Go on as if these images were not there."""
        self.samples = [sample for sample in self.samples if sample.key not in keys]

    def drop_broken(self, on_progress: Callable[[float], None] | None = None) -> list[str]:
        """Decode every image, leave out those that cannot be, and say which and why.

        Afterwards ``content`` names the bytes of those that are left.
        """
        faults, whole, digest = [], [], hashlib.sha256()
        for number, sample in enumerate(self.samples, start=1):
            try:
                content = self.bytes(number - 1)
                decode(content, f"{self.data.root / sample.key}")
                digest.update(hashlib.sha256(content).hexdigest().encode())
                whole.append(sample)
            except ImageDataError as error:
                faults.append(str(error))
            if on_progress:
                on_progress(number / len(self.samples))
        if not whole:
            raise ImageDataError(f"{self.root} holds no readable image: {faults[0]}")
        self.samples, self.content = whole, digest.hexdigest()
        return faults

    def bytes(self, i: int) -> bytes:
        """The file of sample ``i``."""
        sample = self.samples[i]
        try:
            return self.data.read(sample)
        except OSError as error:
            raise ImageDataError(
                f"{self.data.root / sample.key} cannot be read: {error.strerror or error}"
            ) from error

    def image(self, i: int) -> Image.Image:
        """Decode sample ``i`` as RGB."""
        return decode(self.bytes(i), f"{self.data.root / self.samples[i].key}")

    def tensor(self, i: int, size: int) -> torch.Tensor:
        """Pixels of sample ``i`` in [-1, 1], ``(3, size, size)``."""
        return pixels(self.image(i), (3, size, size))


def decode(content: bytes, name: str) -> Image.Image:
    """A file as RGB, transparency on white; a broken one is named in the error."""
    try:
        with Image.open(io.BytesIO(content), formats=IMAGE_FORMATS) as image:
            return as_rgb(image)
    except UnidentifiedImageError as error:
        kinds = ", ".join(IMAGE_FORMATS)
        raise ImageDataError(f"{name} cannot be read as an image: it is no {kinds}") from error
    except (
        OSError,
        SyntaxError,  # Pillow's word for some broken PNGs
        ValueError,
        Image.DecompressionBombError,
    ) as error:
        raise ImageDataError(f"{name} cannot be read as an image: {error}") from error


def as_rgb(image: Image.Image) -> Image.Image:
    """RGB, with transparent parts shown on white, as a viewer would see them."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        ground = Image.new("RGBA", rgba.size, "white")
        ground.alpha_composite(rgba)
        return ground.convert("RGB")
    if image.mode.startswith("I"):
        # Pillow opens 16-bit greys so; converting them cuts all but the darkest off to white.
        image = image.point(lambda value: value * (1 / 256)).convert("L")
    return image.convert("RGB")


def pixels(image: Image.Image, shape: tuple[int, int, int]) -> torch.Tensor:
    """An image as the denoiser sees it: ``shape`` = (channels, height, width), in [-1, 1]."""
    channels, height, width = shape
    prepared = image.convert("L" if channels == 1 else "RGB")
    if prepared.size != (width, height):
        prepared = prepared.resize((width, height), Image.Resampling.LANCZOS)
    array = np.asarray(prepared, dtype=np.float32)
    if channels == 1:
        array = array[..., None]
    return torch.from_numpy(array / 127.5 - 1).permute(2, 0, 1).contiguous()
