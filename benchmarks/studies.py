"""The studies: the paper's tables and figures, and what lies beyond, on a retrained ground truth.

``python benchmarks/studies.py fashion-2 table-1`` measures one study and writes its JSON, Markdown
and plot below ``benchmarks/results/fashion-2``; without a study's name, all of them.  The ground
truth, the model and the pictures that it drew are committed there; the training images come from
packages.  Features are kept below ``benchmarks/data``.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import emoji
import fashion
import latent
import torch
from answer_studies import ANSWER_STUDIES
from drawn_sheet import cut
from rich.console import Console
from rich.table import Table
from tables import DEMO_CLIP, LDS_STUDIES, ratios

from attribution.denoisers import Denoiser
from attribution.evaluation.ground_truth import GroundTruth
from attribution.evaluation.report import (
    LdsReport,
    markdown,
    markdown_table,
    rows_of,
    yardstick_line,
)
from attribution.evaluation.representations import Subject

HERE = Path(__file__).parent
RESULTS = HERE / "results"


def prepare(name: str, processes: int) -> Subject:
    """The study's data, unpacked where it is not yet."""
    data = HERE / "data" / name
    model = RESULTS / name / "model"
    if name == "emoji":
        emoji.build(data)
        prompts = emoji.prompts(data / "train")
    elif name == "latent":
        latent.build(data)
        prompts = latent.prompts(data / "train")
        model = RESULTS / name / "lora"
    else:
        fashion.build(name, data)
        prompts = []
    generated = data / "generated"
    if not (generated / "metadata.jsonl").is_file():
        cut(RESULTS / name / "generated.png", generated, prompts)
    queries = {"validation": data / "validation", "generated": generated}
    return Subject(
        model,
        data / "train",
        queries,
        data / "features",
        clip=str(DEMO_CLIP),
        processes=processes,
    )


def run_lds(name: str, study_name: str, subject: Subject) -> None:
    """Measure one table of LDS, write it and print it."""
    study, console = LDS_STUDIES[name][study_name], Console()
    truth = GroundTruth.read(RESULTS / name / "ground-truth.npz")
    started = time.monotonic()
    results = []
    for result in study.measure(subject, truth):
        results.append(result)
        value = f"{100 * result.estimate.value:5.1f} ± {100 * result.estimate.error:.1f}"
        console.print(f"{value}  {result.case.label}, {result.query_set}, {result.choice}")
    order = [case.label for case in study.cases()]
    if {result.case.label for result in results} == set(order):
        results.sort(key=lambda result: order.index(result.case.label))
    report = LdsReport(
        datetime.now(UTC).date().isoformat(), Denoiser.load(subject.model).digest, truth, results
    ).to_dict() | _heading(name, study_name, study.title, started)
    report["paper"] = study.paper
    report["ratios"] = ratios(results, study.compared)
    out = RESULTS / name / f"{study_name}.json"
    _write(out, report, "\n".join([markdown(report), *map(_told, report["ratios"])]))
    study.picture(report, out.with_suffix(".png"))
    for query_set in report["yardsticks"]:
        _show(rows_of(report, query_set), f"{study.title}: {query_set}", console)
    console.print(yardstick_line(report), f"{report['minutes']} minutes")


def run_answers(name: str, study_name: str, subject: Subject) -> None:
    """Measure one study of answers, write it and print it."""
    title, study = ANSWER_STUDIES[name][study_name]
    started, console = time.monotonic(), Console()
    answer = study(subject)
    report = _heading(name, study_name, title, started) | {
        "date": datetime.now(UTC).date().isoformat(),
        "model_digest": Denoiser.load(subject.model).digest,
        "figures": answer.figures,
    }
    _write(RESULTS / name / f"{study_name}.json", report, markdown_table(answer.rows))
    _show(answer.rows, title, console)


def _told(ratio: dict[str, Any]) -> str:
    low, high = ratio["interval_95"]
    return (
        f"- {ratio['query_set']}, {ratio['damping']} λ: {ratio['label']} has"
        f" {ratio['ratio']:.2f} × the LDS of {ratio['over']} (95 %: {low:.2f} to {high:.2f})"
    )


def _heading(name: str, study_name: str, title: str, started: float) -> dict[str, Any]:
    return {
        "command": f"python benchmarks/studies.py {name} {study_name}",
        "title": title,
        "minutes": round((time.monotonic() - started) / 60, 1),
    }


def _write(out: Path, report: dict[str, Any], page: str) -> None:
    out.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    out.with_suffix(".md").write_text(f"# {report['title']}\n\n`{report['command']}`\n\n{page}")


def _show(rows: list[list[str]], title: str, console: Console) -> None:
    head, *body = rows
    table = Table(*head, title=title)
    for row in body:
        table.add_row(*row)
    console.print(table)


def main() -> None:
    """Parse the command line and run the studies asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=list(LDS_STUDIES))
    parser.add_argument("studies", nargs="*", help="all by default")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    tables = LDS_STUDIES[arguments.name]
    known = [*tables, *ANSWER_STUDIES[arguments.name]]
    unknown = set(arguments.studies) - set(known)
    if unknown:
        parser.error(f"no such study: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    torch.set_num_threads(arguments.processes)
    subject = prepare(arguments.name, arguments.processes)
    for study in arguments.studies or known:
        run = run_lds if study in tables else run_answers
        run(arguments.name, study, subject)


if __name__ == "__main__":
    main()
