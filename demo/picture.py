"""An answer as one picture: what was drawn, what it came from, which part, and whose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

WALL = 6
INK, MUTED = "#1b1f24", "#6a737d"
OWNER_COLOURS = ("#3b6fb6", "#e08a2e", "#5b9a58", "#a05195", "#8a8f98")


def draw_answer(
    picture: Image.Image,
    answer: dict[str, Any],
    training_image: Callable[[str], Image.Image],
    title: str,
    path: Path,
) -> None:
    """Write the answer to ``path``; ``training_image`` opens a training image by its key."""
    contributors = answer["contributors"][:WALL]
    figure = Figure(figsize=(13, 5.6), facecolor="white", layout="constrained")
    grid = figure.add_gridspec(
        3, WALL + 2, height_ratios=(1.0, 1.0, 0.36), width_ratios=(1, 1, *[1] * WALL)
    )
    drawn = figure.add_subplot(grid[0:2, 0:2])
    _show(drawn, picture)
    drawn.set_title(f"“{title}”", fontsize=13, color=INK, pad=8)
    drawn.set_xlabel("drawn by the model", fontsize=9, color=MUTED)
    colours = _owner_colours(answer)
    for column, contributor in enumerate(contributors, start=2):
        above = figure.add_subplot(grid[0, column])
        _show(above, training_image(contributor["key"]))
        colour = colours.get(contributor["creator"] or "unknown", OWNER_COLOURS[-1])
        for spine in above.spines.values():
            spine.set(visible=True, color=colour, linewidth=2.5)
        above.set_title(
            f"{contributor['rank']}  {shorten(contributor['text'] or contributor['key'], 24)}",
            fontsize=9,
            color=INK,
        )
        above.set_xlabel(_caption(contributor), fontsize=7.5, color=MUTED)
        below = figure.add_subplot(grid[1, column])
        _show(below, lit(picture, contributor["regions"]))
        below.set_xlabel("the part it accounts for", fontsize=7.5, color=MUTED)
    _roll_up(figure.add_subplot(grid[2, :]), answer, colours)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def lit(picture: Image.Image, regions: list[float] | None) -> NDArray[np.float64]:
    """The picture, faded to grey where a training image accounts for little of it.

    ``regions`` are the image's shares of each region's influence, row-major; the brightest is its
    largest.
    """
    pixels = np.asarray(picture.convert("RGB"), dtype=np.float64) / 255
    if regions is None:
        return pixels
    side = round(len(regions) ** 0.5)
    shares = np.array(regions).reshape(side, side) / max(*regions, 1e-12)
    height, width = pixels.shape[:2]
    rows, columns = np.arange(height) * side // height, np.arange(width) * side // width
    light = shares[rows][:, columns, None]
    faded = 0.82 + 0.12 * (pixels.mean(axis=2, keepdims=True) - 0.5)
    return np.asarray(light * pixels + (1 - light) * faded)


def _show(axes: Axes, image: Image.Image | NDArray[np.float64]) -> None:
    axes.imshow(np.asarray(image), interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(color="#d0d7de", linewidth=0.8)


def _caption(contributor: dict[str, Any]) -> str:
    error = contributor["std_error"]
    effect = f"effect {contributor['effect']:+.2g}" + (f" ± {error:.1g}" if error else "")
    share = f"share {contributor['share']:.1%}   CLIP {contributor['clip_similarity']:.2f}"
    return f"{contributor['licence'] or 'no licence'}\n{effect}\n{share}"


def _owner_colours(answer: dict[str, Any]) -> dict[str, str]:
    """A colour for each creator, by name, so that they agree between pictures."""
    owners = sorted(row["creator"] for row in answer["by_creator"])
    return {owner: OWNER_COLOURS[min(i, len(OWNER_COLOURS) - 1)] for i, owner in enumerate(owners)}


def _roll_up(axes: Axes, answer: dict[str, Any], colours: dict[str, str]) -> None:
    """One bar: whose drawings made this picture, over all considered training images."""
    left = 0.0
    for row in answer["by_creator"]:
        axes.barh(0, row["share"], left=left, color=colours[row["creator"]], height=0.7)
        if row["share"] > 0.12:
            axes.text(
                left + row["share"] / 2,
                0,
                f"{row['creator']}  {row['share']:.0%}",
                ha="center",
                va="center",
                color="white",
                fontsize=9,
            )
        left += row["share"]
    axes.set(xlim=(0, max(left, 1e-9)), yticks=[], xticks=[])
    candidates = answer["candidates"]
    axes.set_xlabel(
        f"share of the influence of all {candidates['considered']:,} training images considered"
        f"  ·  {answer['rests_on']['method']}, {answer['rests_on']['timesteps']} timesteps"
        f"  ·  {answer['statement'].lower()}",
        fontsize=8,
        color=MUTED,
    )
    for spine in axes.spines.values():
        spine.set_visible(False)
