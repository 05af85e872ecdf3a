"""Progress in the terminal: one rich bar with an end time, silent where nobody watches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

console = Console(stderr=True)


@contextmanager
def progress_bar(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function that takes the number done so far."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(description, total=total)
        yield lambda done: progress.update(task, completed=done)


@contextmanager
def stage_progress(description: str) -> Iterator[Callable[[str, float], None]]:
    """Yield a function that takes the name of the stage that runs and its fraction done.

    Each stage starts the bar, and the estimate of the time left, anew.  Nothing is shown before
    the first call: work that is refused at the door leaves no empty bar behind.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[stage]}"),
    )
    progress = Progress(*columns, console=console)
    task = progress.add_task(description, total=1.0, stage="")
    current = ""

    def advance(stage: str, fraction: float) -> None:
        nonlocal current
        progress.start()
        if stage != current:
            current = stage
            progress.reset(task, stage=stage)
        progress.update(task, completed=fraction)

    try:
        yield advance
    finally:
        if progress.live.is_started:
            progress.stop()
