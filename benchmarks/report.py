"""How a benchmark reports: one JSON line a row as it is measured, a table at the end, one file."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"


class Report:
    """The rows of one benchmark."""

    def __init__(self, name: str, out: Path | None) -> None:
        self.name, self.rows = name, list[dict[str, Any]]()
        self.out = out or RESULTS / f"{name}.json"

    def add(
        self, case: str, figure: str, value: float, target: str, met: bool, **more: Any
    ) -> None:
        """One measured figure beside what was wanted of it."""
        row = {"case": case, "figure": figure, "value": round(value, 3), "target": target}
        self.rows.append(row | {"met": met} | more)
        print(json.dumps(self.rows[-1]), flush=True)

    def end(self) -> None:
        """Print the table and write the file."""
        table = Table(title=self.name)
        for column in ("case", "figure", "value", "target", "met"):
            table.add_column(column)
        for row in self.rows:
            cells = [row["case"], row["figure"], f"{row['value']:g}", row["target"]]
            table.add_row(*cells, "yes" if row["met"] else "no")
        Console().print(table)
        machine = {
            "processor": _processor(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "python": platform.python_version(),
        }
        content = {"command": f"python benchmarks/{self.name}.py", "machine": machine}
        self.out.write_text(json.dumps(content | {"rows": self.rows}, indent=2) + "\n")


def seconds(work: Callable[[], object], times: int = 3) -> float:
    """The shortest of some runs: what the work costs when nothing else disturbs it."""
    best = float("inf")
    for _ in range(times):
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return best


def alternating(
    ours: Callable[[], object], reference: Callable[[], object], times: int = 3
) -> tuple[float, float]:
    """Both sides' shortest runs, taken in turns, so that a disturbance meets both."""
    runs = [(seconds(ours, 1), seconds(reference, 1)) for _ in range(times)]
    return min(run[0] for run in runs), min(run[1] for run in runs)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
