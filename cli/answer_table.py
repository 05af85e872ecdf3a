"""An answer as tables: the most influential training images, and whose all of it is."""

from __future__ import annotations

from collections.abc import Iterator
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
    for remark in _remarks(result):
        console.print(Text(remark))
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
        table.add_row(Text(row[owner]), _share(row["share"], row.get("std_error")), bar)
    return table


def _share(share: float, std_error: float | None) -> str:
    return f"{share:.1%}" if std_error is None else f"{share:.1%} ± {std_error:.1%}"


def _remarks(result: dict[str, Any]) -> Iterator[str]:
    """What to know before relying on it; answers of older releases lack some of it."""
    for conflict in result.get("licence_conflicts", []):
        licences = f" ({', '.join(conflict['licences'])})" if conflict["licences"] else ""
        yield (
            f"{conflict['kind']}: {conflict['share']:.1%} of the influence,"
            f" {conflict['images']} images{licences}; {conflict['why']}."
        )
    for group in result.get("near_duplicates", []):
        yield f"Hardly to be told apart: {', '.join(group)}."
    if (unattributed := result.get("unattributed_share")) is not None:
        yield (
            f"Within two standard errors of none: {unattributed:.1%} of the influence;"
            " there is no telling whose that is."
        )
    if redacted := result.get("redacted"):
        yield f"Taken down since: {redacted} of the listed images."


def _basis(result: dict[str, Any]) -> str:
    candidates, basis = result["candidates"], result["rests_on"]
    considered = (
        f"all {candidates['corpus']} training images"
        if candidates["exhaustive"]
        else f"{candidates['considered']} of {candidates['corpus']} training images,"
        f" chosen by {candidates['strategy']}"
    )
    return f"Method {basis['method']}, {considered}. {result['statement']}."
