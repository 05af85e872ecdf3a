"""Training images as the model sees them, whatever mode they were saved in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attribution.image_data.sample import ImageDataError
from attribution.image_set import ImageSet, as_rgb, pixels


def test_sixteen_bit_greys_keep_their_tones() -> None:
    ramp = np.linspace(0, 65_535, 256, dtype=np.uint16).reshape(16, 16)
    shown = np.asarray(as_rgb(Image.fromarray(ramp)))
    for channel in range(3):
        assert np.array_equal(shown[..., channel], ramp // 256)


def test_transparent_parts_are_white() -> None:
    assert as_rgb(Image.new("RGBA", (1, 1), (255, 0, 0, 0))).getpixel((0, 0)) == (255, 255, 255)


def test_a_palettes_transparent_colour_is_white() -> None:
    image = Image.new("P", (1, 1))
    image.putpalette([200, 0, 0])
    assert as_rgb(image).getpixel((0, 0)) == (200, 0, 0)
    image.info["transparency"] = 0
    assert as_rgb(image).getpixel((0, 0)) == (255, 255, 255)


def test_pixels_are_seen_from_minus_one_to_one() -> None:
    """Rows then columns, resized to the model's size where it is another."""
    image = Image.new("RGB", (3, 2), "black")
    image.putpixel((2, 0), (255, 0, 51))
    found = pixels(image, (3, 2, 3))
    assert found[:, 0, 2].tolist() == pytest.approx([1, -1, -0.6])
    assert (found[:, 1] == -1).all()
    assert pixels(Image.new("RGB", (9, 5), "white"), (1, 2, 3)).tolist() == [[[1] * 3] * 2]


def test_broken_images_are_dropped_and_told(tmp_path: Path) -> None:
    for name in ("a.png", "c.png"):
        Image.new("RGB", (2, 2)).save(tmp_path / name)
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    folder = ImageSet(tmp_path)
    told: list[float] = []
    (fault,) = folder.drop_broken(told.append)
    assert "b.png cannot be read as an image" in fault
    assert [sample.key for sample in folder.samples] == ["a.png", "c.png"]
    assert told == pytest.approx([1 / 3, 2 / 3, 1])
    for name in ("a.png", "c.png"):
        (tmp_path / name).write_bytes(b"no picture")
    with pytest.raises(ImageDataError, match="holds no readable image"):
        ImageSet(tmp_path).drop_broken()


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(ImageDataError, match=r"broken\.png"):
        ImageSet(tmp_path).image(0)
