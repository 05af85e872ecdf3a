"""Drawn pictures as one small file that can be committed.

``python benchmarks/drawn_sheet.py FOLDER SHEET.png`` joins what ``headwater draw`` wrote
from the seeds 0, 1, …, losing nothing; the studies cut them apart again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

COLUMNS = 20


def join(folder: Path, sheet: Path) -> None:
    """Write all pictures of a folder, in their order, row by row."""
    files = sorted(folder.glob("*.png"))
    with Image.open(files[0]) as first:
        (width, height), mode = first.size, first.mode
    rows = -(-len(files) // COLUMNS)
    if rows * COLUMNS != len(files):
        raise SystemExit(f"{len(files)} pictures do not fill rows of {COLUMNS}")
    joined = Image.new(mode, (COLUMNS * width, rows * height))
    for number, file in enumerate(files):
        with Image.open(file) as picture:
            joined.paste(picture, (number % COLUMNS * width, number // COLUMNS * height))
    joined.save(sheet, optimize=True)


def cut(sheet: Path, folder: Path, texts: Sequence[str] = ()) -> None:
    """Cut square pictures out of a sheet, with the metadata that says their seeds and prompts."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    with Image.open(sheet) as image:
        size = image.width // COLUMNS
        for seed in range((image.width // size) * (image.height // size)):
            x, y = seed % COLUMNS * size, seed // COLUMNS * size
            image.crop((x, y, x + size, y + size)).save(folder / f"{seed:05d}.png")
            told = {"text": texts[seed]} if texts else {}
            rows.append(json.dumps({"file_name": f"{seed:05d}.png", "seed": seed} | told))
    (folder / "metadata.jsonl").write_text("\n".join(rows) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("sheet", type=Path)
    arguments = parser.parse_args()
    join(arguments.folder, arguments.sheet)
