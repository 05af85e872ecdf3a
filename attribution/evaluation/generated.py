"""A folder of pictures that a model has drawn: queries whose seeds are known."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from attribution.denoisers import Denoiser, Drawing
from attribution.image_data.folder import METADATA
from attribution.index.manifest import write_atomically

DRAWN_AT_ONCE = 50


def draw_folder(
    denoiser: Denoiser,
    prompts: Sequence[str],
    seeds: Sequence[int],
    drawing: Drawing,
    folder: Path,
    on_progress: Callable[[int], None] | None = None,
) -> None:
    """Draw one picture for each prompt and seed, and say in ``metadata.jsonl`` how."""
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, object]] = []
    for start in range(0, len(seeds), DRAWN_AT_ONCE):
        some = slice(start, start + DRAWN_AT_ONCE)
        *_, last = denoiser.drawn_together(prompts[some], seeds[some], drawing)
        pictures = denoiser.decode(last.sample)
        for prompt, seed, picture in zip(prompts[some], seeds[some], pictures, strict=True):
            name = f"{len(rows):05d}.png"
            picture.save(folder / name)
            rows.append({"file_name": name, "seed": seed} | ({"text": prompt} if prompt else {}))
        if on_progress:
            on_progress(len(rows))
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_atomically(folder / METADATA, lines.encode())
