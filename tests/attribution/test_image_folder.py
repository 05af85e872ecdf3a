"""Training images as the model sees them, whatever mode they were saved in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attribution.image_folder import ImageFolder, as_rgb
from attribution.metadata import ImageFolderError


def test_sixteen_bit_greys_keep_their_tones() -> None:
    ramp = Image.fromarray(np.linspace(0, 65_535, 16, dtype=np.uint16).reshape(4, 4))
    shown = np.asarray(as_rgb(ramp))[..., 0].ravel()
    assert shown[0] == 0
    assert shown[-1] == 255
    assert (np.diff(shown.astype(int)) > 0).all()


def test_transparent_parts_are_white() -> None:
    assert as_rgb(Image.new("RGBA", (1, 1), (255, 0, 0, 0))).getpixel((0, 0)) == (255, 255, 255)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(ImageFolderError, match=r"broken\.png"):
        ImageFolder(tmp_path).image(0)
