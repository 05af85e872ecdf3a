"""An answer as tables: the most influential training images, and whose all of it is."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

BAR_WIDTH = 20


def show(result: dict[str, Any], console: Console) -> None:
    """Print the ranked training images, the roll-ups, and what the answer rests on."""
    console.print(_contributors(result["contributors"]))
    for owner in ("creator", "licence"):
        console.print(_roll_up(owner, result[f"by_{owner}"]))
    console.print(Text(_basis(result), style="dim"))


def _contributors(contributors: list[dict[str, Any]]) -> Table:
    # As little ruling as possible: all eight columns fit into 80 characters.
    table = Table(
        title="Most influential training images",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("training image", overflow="fold", min_width=12)
    table.add_column("creator", overflow="fold", min_width=9)
    table.add_column("licence", no_wrap=True)
    for column in ("effect", "score", "share", "CLIP"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in contributors:
        table.add_row(
            str(row["rank"]),
            # Text, not str: a caption may hold what rich takes for markup.
            Text(row["text"] or row["key"]),
            Text(row["creator"] or "unknown"),
            Text(row["licence"] or "unknown"),
            _effect(row["effect"], row["std_error"]),
            f"{row['score']:.2g}",
            f"{row['share']:.1%}",
            f"{row['clip_similarity']:.2f}",
        )
    return table


def _effect(effect: float, std_error: float | None) -> str:
    if std_error is None:
        return f"{effect:+.3g}"
    return f"{effect:+.2g} ± {std_error:.1g}"


def _roll_up(owner: str, rows: list[dict[str, Any]]) -> Table:
    table = Table(title=f"Influence by {owner}", title_justify="left")
    table.add_column(owner)
    table.add_column("share", justify="right")
    table.add_column("", no_wrap=True)
    for row in rows:
        bar = "█" * round(row["share"] * BAR_WIDTH)
        table.add_row(Text(row[owner]), f"{row['share']:.1%}", bar)
    return table


def _basis(result: dict[str, Any]) -> str:
    candidates, basis = result["candidates"], result["rests_on"]
    considered = (
        f"all {candidates['corpus']} training images"
        if candidates["exhaustive"]
        else f"{candidates['considered']} of {candidates['corpus']} training images,"
        f" chosen by {candidates['strategy']}"
    )
    return f"Method {basis['method']}, {considered}. {result['statement']}."
