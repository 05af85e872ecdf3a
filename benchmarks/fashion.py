"""The data of the Fashion studies: Fashion-MNIST at 16 × 16, as Debian packages it.

``python benchmarks/fashion.py fashion-2 FOLDER`` writes FOLDER/train and FOLDER/validation,
ordinary image folders with a sub-folder for each class.  Sandals and coats are the two classes of
Fashion-2; Fashion-10 has all ten.
"""

from __future__ import annotations

import argparse
import gzip
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PACKAGE = Path("/usr/share/datasets/fashion-mnist")
CLASSES = (
    "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot",
)  # fmt: skip
SIZE = 16


@dataclass(frozen=True)
class FashionSet:
    """Which classes, and how many images of each."""

    classes: tuple[str, ...]
    train_of_each: int
    validation_of_each: int


SETS = {
    "fashion-2": FashionSet(("coat", "sandal"), 1000, 100),
    "fashion-10": FashionSet(CLASSES, 300, 20),
}


def build(name: str, folder: Path) -> None:
    """Write both image folders; what is there already is left alone."""
    chosen = SETS[name]
    for part, prefix, count in (
        ("train", "train", chosen.train_of_each),
        ("validation", "t10k", chosen.validation_of_each),
    ):
        target = folder / part
        if (target / "metadata.jsonl").is_file():
            continue
        images, labels = read_images(prefix)
        rows = []
        for label in chosen.classes:
            (target / label).mkdir(parents=True, exist_ok=True)
            of_class = images[labels == CLASSES.index(label)][:count]
            for number, image in enumerate(of_class):
                file_name = f"{label}/{number:04d}.png"
                shrink(image).save(target / file_name)
                rows.append({"file_name": file_name, "text": label, "licence": "MIT"})
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (target / "metadata.jsonl").write_text(lines, encoding="utf-8")


def shrink(image: NDArray[np.uint8]) -> Image.Image:
    """28 × 28 with a margin of two black pixels, halved."""
    return Image.fromarray(np.pad(image, 2)).resize((SIZE, SIZE), Image.Resampling.BOX)


def read_images(prefix: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Pictures ``(n, 28, 28)`` and the numbers of their classes; ``train`` or ``t10k``."""
    try:
        images = gzip.decompress((PACKAGE / f"{prefix}-images-idx3-ubyte.gz").read_bytes())
        labels = gzip.decompress((PACKAGE / f"{prefix}-labels-idx1-ubyte.gz").read_bytes())
    except FileNotFoundError as error:
        raise SystemExit(f"{error.filename}: apt-get install dataset-fashion-mnist") from None
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28)
    return pixels, np.frombuffer(labels, np.uint8, offset=8)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(SETS))
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    build(arguments.name, arguments.folder)
