"""Pictures in the shapes that programs have them in."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, Protocol

from headwater_client.exchange import Picture


class Readable(Protocol):
    """A file that is open for reading bytes."""

    def read(self) -> bytes:
        """All that is left."""


class Savable(Protocol):
    """A picture that writes itself to a file, as Pillow's do."""

    def save(self, fp: Any, format: str) -> Any:
        """Write in a format of that name."""


PictureSource = str | os.PathLike[str] | bytes | Readable | Savable


def read_picture(source: PictureSource) -> Picture:
    """The picture's bytes: of a path, of bytes, of an open file; of Pillow's as PNG."""
    if isinstance(source, bytes):
        return Picture("image", source)
    if isinstance(source, str | os.PathLike):
        return Picture(Path(source).name, Path(source).read_bytes())
    if hasattr(source, "read"):
        return Picture("image", source.read())
    written = io.BytesIO()
    source.save(written, format="PNG")
    return Picture("image", written.getvalue())
