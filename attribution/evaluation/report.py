"""What was measured, as JSON, as Markdown and as pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attribution.evaluation.ground_truth import GroundTruth
from attribution.evaluation.lds import Yardsticks
from attribution.evaluation.measure import Result

CHOICES = ("label-free", "oracle")
COLOURS = {"label-free": "#3b6fb6", "oracle": "#c9ced6"}
INK = "#1b1f24"


@dataclass(frozen=True)
class LdsReport:
    """The LDS of some cases on one ground truth."""

    date: str
    model_digest: str
    truth: GroundTruth
    results: Sequence[Result]

    @property
    def yardsticks(self) -> dict[str, Yardsticks | None]:
        """ρ and the limit of each set of queries."""
        return {result.query_set: result.yardsticks for result in self.results}

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "date": self.date,
            "model_digest": self.model_digest,
            "protocol": self.truth.protocol,
            "subsets": len(self.truth.whole_subsets()),
            "training_seeds": len(self.truth.seeds),
            "training_images": len(self.truth.train_keys),
            "training_keys": sha256("\n".join(sorted(self.truth.train_keys)).encode()).hexdigest(),
            "yardsticks": {
                name: None if known is None else {"rho": known.rho, "limit": known.limit}
                for name, known in self.yardsticks.items()
            },
            "results": [result.to_dict() for result in self.results],
        }


def rows_of(report: dict[str, Any], query_set: str) -> list[list[str]]:
    """A table of one set of queries: a row for each case, LDS in % under each choice of λ.

    The report is as ``LdsReport.to_dict`` gives it; the first row is the head.  Where it holds the
    ``paper``'s figures they stand beside.
    """
    results = [r for r in report["results"] if r["query_set"] == query_set]
    paper = report.get("paper")
    body = []
    for label in dict.fromkeys(result["label"] for result in results):
        found = {r["damping"]: r for r in results if r["label"] == label}
        plain = found.get(None)
        cells = [_cell(found.get(choice)) for choice in CHOICES]
        if plain is not None:
            cells[0] = _cell(plain)
        fraction = (plain or found[CHOICES[0]])["of_limit"]
        cells.append("–" if fraction is None else f"{fraction:.2f}")
        if paper:
            theirs = paper.get(label, {}).get(query_set)
            cells.append("–" if theirs is None else f"{theirs:.1f}")
        body.append([label, *cells])
    head = ["score", *(f"{choice} λ" for choice in CHOICES), "of the limit"]
    return [[*head, "paper, other data"] if paper else head, *body]


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as Markdown, the first column to the left and numbers to the right."""
    head, *body = rows
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in body]
    return "\n".join(lines) + "\n"


def markdown(report: dict[str, Any]) -> str:
    """The report as a page: how it was measured, the yardsticks, the table."""
    training = report["protocol"]["training"]
    said = ", ".join(f"{name} {value}" for name, value in training.items())
    page = [
        f"LDS in %, mean over queries ± bootstrap error over {report['subsets']} subsets"
        f" of {report['training_images']:,} training images,"
        f" {report['training_seeds']} training seeds averaged; measured {report['date']}.\n",
        f"Retrained with {said}.\n",
        *(f"## {name}\n\n{markdown_table(rows_of(report, name))}" for name in report["yardsticks"]),
        yardstick_line(report),
        "Label-free λ is what an index would use; oracle λ is the best of a grid on the very"
        " queries that are scored, which the paper's tables have and a user cannot.\n",
    ]
    return "\n".join(page)


def yardstick_line(report: dict[str, Any]) -> str:
    """What the figures are to be held against."""
    told = [
        f"{name}: one retraining foretells another with ρ = {known['rho']:.1%},"
        f" and a perfect predictor would reach {known['limit']:.1%}"
        for name, known in report["yardsticks"].items()
        if known is not None
    ]
    if not told:
        return "With one training seed there is nothing to say of the noise of the target.\n"
    return "; ".join(told) + ".\n"


def plot(report: dict[str, Any], path: Path) -> None:
    """Bars of each score's LDS, a panel for each set of queries, with ρ and the limit."""
    sets = list(report["yardsticks"])
    labels = list(dict.fromkeys(result["label"] for result in report["results"]))
    figure = Figure(figsize=(5.5 * len(sets) + 1, 0.34 * len(labels) + 1.3), layout="constrained")
    panels = figure.subplots(1, len(sets), sharey=True, squeeze=False)[0]
    for panel, name in zip(panels, sets, strict=True):
        _bars(panel, [r for r in report["results"] if r["query_set"] == name], labels)
        panel.set_title(name, fontsize=11, color=INK)
        known = report["yardsticks"][name]
        if known is not None:
            for value, style, text in ((known["rho"], ":", "ρ"), (known["limit"], "--", "limit")):
                panel.axvline(100 * value, color=INK, linestyle=style, linewidth=1)
                panel.text(100 * value, -0.9, text, ha="center", fontsize=9, color=INK)
    panels[0].set_yticks(range(len(labels)), labels)
    panels[0].invert_yaxis()
    figure.savefig(path, dpi=110)


def plot_dampings(report: dict[str, Any], path: Path) -> None:
    """LDS over λ, a line for each score that was swept; a dot is the λ an index would use."""
    sets = list(report["yardsticks"])
    figure = Figure(figsize=(5.5 * len(sets), 3.6), layout="constrained")
    panels = figure.subplots(1, len(sets), sharey=True, squeeze=False)[0]
    for panel, name in zip(panels, sets, strict=True):
        of_set = [r for r in report["results"] if r["query_set"] == name]
        for swept in (r for r in of_set if r["curve"]):
            dampings, values = np.array(swept["curve"]).T
            (line,) = panel.plot(dampings, 100 * values, linewidth=1.5, label=swept["label"])
            used = next(
                r for r in of_set if r["label"] == swept["label"] and r["damping"] == "label-free"
            )
            panel.plot(used["relative_damping"], 100 * used["lds"], "o", color=line.get_color())
        panel.set_xscale("log")
        panel.set_title(name, fontsize=11, color=INK)
        panel.set_xlabel("λ / mean eigenvalue", fontsize=9)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("LDS in %", fontsize=9)
    panels[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)


def _bars(panel: Axes, results: Iterable[dict[str, Any]], labels: Sequence[str]) -> None:
    shown: set[str] = set()
    for result in results:
        choice = result["damping"] or "label-free"
        oracle = choice == "oracle"
        panel.barh(
            labels.index(result["label"]),
            100 * result["lds"],
            height=0.78 if oracle else 0.45,
            color=COLOURS[choice],
            zorder=1 if oracle else 2,
            xerr=None if oracle else 100 * result["std_error"],
            error_kw={"elinewidth": 1, "ecolor": INK},
            label=None if choice in shown else f"{choice} λ",
        )
        shown.add(choice)
    panel.axvline(0, color=INK, linewidth=0.8)
    panel.set_xlabel("LDS in %", fontsize=9)
    panel.legend(fontsize=8, loc="lower right")
    panel.spines[["top", "right"]].set_visible(False)


def _cell(result: dict[str, Any] | None) -> str:
    if result is None:
        return "–"
    return f"{100 * result['lds']:.1f} ± {100 * result['std_error']:.1f}"
