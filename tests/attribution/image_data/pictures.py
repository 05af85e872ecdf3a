"""Small pictures to put into archives and tables."""

from __future__ import annotations

import io

from PIL import Image


def picture(shade: int, kind: str = "PNG") -> bytes:
    written = io.BytesIO()
    Image.new("RGB", (4, 4), (shade, shade, shade)).save(written, kind)
    return written.getvalue()
