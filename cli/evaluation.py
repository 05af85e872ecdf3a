"""What ``headwater evaluate`` does, and what it prints and writes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from attribution.denoisers import Denoiser, Drawing
from attribution.embeddings import ClipEmbedder
from attribution.errors import InputError
from attribution.evaluation.counterfactual import (
    RANDOM,
    Experiment,
    as_array,
    counterfactual_report,
    counterfactual_rows,
    largest,
    random_deletions,
)
from attribution.evaluation.counterfactual import picture as draw_counterfactual
from attribution.evaluation.counterfactual import run as run_experiment
from attribution.evaluation.ground_truth import GroundTruth
from attribution.evaluation.measure import Bench, Case, Result, scores_of
from attribution.evaluation.report import (
    LdsReport,
    markdown,
    markdown_table,
    plot,
    rows_of,
    yardstick_line,
)
from attribution.evaluation.representations import Subject
from attribution.evaluation.retraining import (
    CommandTrainer,
    Measurement,
    Plan,
    Trainer,
    planned,
    recorded_trainer,
    retrain,
)
from attribution.evaluation.subsets import Stratum, draw_subsets, leave_groups_out, strata
from attribution.image_set import ImageSet
from attribution.index.manifest import write_atomically
from attribution.methods import METHODS, MethodError
from cli.errors import BadInputError
from cli.progress import progress_bar, stage_progress


@dataclass(frozen=True)
class Retraining:
    """What is asked of the ground truth."""

    data: Path
    queries: dict[str, Path]
    truth: Path
    model: Path | None
    train_command: str | None
    subsets: int
    fraction: float
    stratify: Stratum
    subset_seed: int
    training_seeds: int
    loss_timesteps: int
    loss_draws: int
    leave_out: Stratum = "none"

    def trainer(self) -> Trainer:
        """The command, or the training that made the model."""
        if self.train_command is not None:
            return CommandTrainer(self.train_command)
        if self.model is None:
            raise BadInputError("say --model, whose training is repeated, or --train-command")
        return recorded_trainer(self.model)[0]

    def subsets_of(self, folder: ImageSet) -> tuple[NDArray[np.bool_], dict[str, Any]]:
        """The subsets ``(M, n)``, and what the protocol says of them."""
        if self.leave_out != "none":
            groups, without = leave_groups_out(strata(folder.samples, self.leave_out))
            everything = np.ones((1, len(folder)), dtype=np.bool_)
            design = {"kind": "leave-out", "by": self.leave_out, "groups": groups}
            return np.concatenate([everything, without]), design
        labels = strata(folder.samples, self.stratify)
        members = draw_subsets(labels, self.subsets, self.fraction, self.subset_seed)
        return members, {
            "kind": "random",
            "fraction": self.fraction,
            "stratify": self.stratify,
            "seed": self.subset_seed,
        }


@dataclass(frozen=True)
class Evaluation:
    """What is asked of the scores."""

    model: Path
    data: Path
    queries: dict[str, Path]
    clip: str | None
    work: Path
    out: Path
    methods: list[str]
    knobs: dict[str, Any]

    def cases(self) -> list[Case]:
        """The methods asked for; without any, all that this model and these knobs admit."""
        if self.methods:
            cases = [Case.of(name, **self.knobs) for name in self.methods]
            if self.clip is None and any(case.config.output == "clip" for case in cases):
                raise BadInputError("--clip: name the open_clip directory that embeds the images")
            return cases
        cases = []
        checkpoints = len(Denoiser.load(self.model).checkpoints) + 1
        for name in METHODS:
            try:
                case = Case.of(name, **self.knobs)
            except MethodError:
                continue
            able = case.config.checkpoints <= checkpoints and "timesteps apart" not in (
                case.method.needs
            )
            if able and (self.clip is not None or case.config.output != "clip"):
                cases.append(case)
        return cases


def make_ground_truth(asked: Retraining, processes: int) -> GroundTruth:
    """Train and measure what ``asked.truth`` lacks; return the whole."""
    folder = ImageSet(asked.data)
    plan = Plan(
        asked.trainer(),
        asked.data,
        asked.queries,
        Measurement(asked.loss_timesteps, asked.loss_draws),
    )
    members, design = asked.subsets_of(folder)
    protocol = plan.protocol(**design)
    keys = [sample.key for sample in folder.samples]
    seeds = list(range(asked.training_seeds))
    if not asked.truth.absolute().parent.is_dir():
        raise BadInputError(f"--truth: {asked.truth.parent} is no folder")
    truth = planned(
        asked.truth, GroundTruth.planned(keys, plan.query_keys(), members, seeds, protocol)
    )
    with progress_bar("retraining", truth.measured.size) as advance:
        retrain(
            plan,
            truth,
            asked.truth,
            processes=processes,
            on_progress=lambda done, total: advance(done),
        )
    return truth


def measure_lds(asked: Evaluation, truth: GroundTruth, processes: int) -> dict[str, Any]:
    """Measure, and write the report as JSON, Markdown and a picture."""
    cases = asked.cases()
    subject = Subject(asked.model, asked.data, asked.queries, asked.work, asked.clip, processes)
    bench = Bench(subject, truth)
    with stage_progress("features") as report_features:
        bench.extract(cases, lambda done, total: report_features("shards", done / total))
    results: list[Result] = []
    total = sum(len(bench.query_sets(case.method)) for case in cases)
    with progress_bar("scores", total) as advance:
        for result in bench.measure(cases):
            results.append(result)
            advance(len({(known.case.label, known.query_set) for known in results}))
    order = [case.label for case in cases]
    results.sort(key=lambda result: order.index(result.case.label))
    report = LdsReport(
        date=datetime.now(UTC).date().isoformat(),
        model_digest=Denoiser.load(asked.model).digest,
        truth=truth,
        results=results,
    )
    content = report.to_dict()
    write_atomically(asked.out, (json.dumps(content, indent=1) + "\n").encode())
    write_atomically(asked.out.with_suffix(".md"), markdown(content).encode())
    plot(content, asked.out.with_suffix(".png"))
    return content


@dataclass(frozen=True)
class Counterfactual:
    """What is asked of deletion and retraining."""

    model: Path
    data: Path
    queries: Path
    out: Path
    work: Path
    methods: list[str]
    knobs: dict[str, Any]
    remove: int
    count: int | None
    random: int
    steps: int
    guidance_scale: float
    clip: str | None
    train_command: str | None


def measure_counterfactual(asked: Counterfactual, processes: int) -> dict[str, Any]:
    """Score, delete, train again, draw again, and write what came of it."""
    cases = [Case.of(name, **asked.knobs) for name in asked.methods]
    folder = ImageSet(asked.queries)
    chosen = folder.samples[: asked.count]
    unseeded = [sample.key for sample in chosen if sample.seed is None]
    if unseeded:
        raise BadInputError(f"{asked.queries}: {unseeded[0]} has no seed to be drawn from again")
    trainer, training_seed = _trainer_and_seed(asked.model, asked.train_command)
    subject = Subject(
        asked.model, asked.data, {"queries": asked.queries}, asked.work, asked.clip, processes
    )
    deletions = {}
    for case in cases:
        with stage_progress(case.label) as advance:
            scores = scores_of(
                subject, case, "queries", lambda done, total: advance("shards", done / total)
            )
        deletions[case.label] = largest(scores[: len(chosen)], asked.remove)
    images = len(ImageSet(asked.data))
    deletions[RANDOM] = random_deletions(images, asked.remove, asked.random)
    experiment = Experiment(
        trainer=trainer,
        data=asked.data,
        training_seed=training_seed,
        prompts=[sample.text or "" for sample in chosen],
        drawing_seeds=[sample.seed for sample in chosen if sample.seed is not None],
        drawing=Drawing(0, asked.steps, asked.guidance_scale),
        deletions=deletions,
    )
    with progress_bar("retraining", sum(len(rows) for rows in deletions.values())) as bar:
        pictures = run_experiment(
            experiment,
            asked.out.with_suffix(".npz"),
            processes=processes,
            on_progress=lambda done, total: bar(done),
        )
    originals = as_array([folder.image(i) for i in range(len(chosen))])
    clip = ClipEmbedder(asked.clip) if asked.clip else None
    report = counterfactual_report(originals, pictures, clip) | {
        "date": datetime.now(UTC).date().isoformat(),
        "model_digest": Denoiser.load(asked.model).digest,
        "training": trainer.describe(),
        "training_images": images,
        "removed": asked.remove,
        "configs": {case.label: case.config.to_dict() for case in cases},
    }
    write_atomically(asked.out, (json.dumps(report, indent=1) + "\n").encode())
    table = markdown_table(counterfactual_rows(report))
    write_atomically(asked.out.with_suffix(".md"), table.encode())
    draw_counterfactual(originals, pictures, asked.out.with_suffix(".png"))
    return report


def show_counterfactual(report: dict[str, Any], console: Console) -> None:
    """Print how far each deletion moved the pictures."""
    head, *body = counterfactual_rows(report)
    table = Table(*head, title=f"{report['removed']} of {report['training_images']} images deleted")
    for row in body:
        table.add_row(*row)
    console.print(table)


def write_report(results: list[Path], out: Path) -> None:
    """One Markdown page of several LDS results, each with its picture."""
    pages = []
    for path in results:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            pictured = out.with_name(f"{out.stem}-{path.stem}.png")
            plot(content, pictured)
            pages.append(f"# {path.stem}\n\n{markdown(content)}\n![{path.stem}]({pictured.name})\n")
        except (ValueError, KeyError, TypeError) as error:
            raise BadInputError(f"{path} is no result of evaluate lds: {error}") from None
    write_atomically(out, "\n".join(pages).encode())


def _trainer_and_seed(model: Path, train_command: str | None) -> tuple[Trainer, int]:
    trainer, seed = recorded_trainer(model)
    return (trainer if train_command is None else CommandTrainer(train_command)), seed


def show_lds(report: dict[str, Any], console: Console) -> None:
    """Print the table and what it is to be held against."""
    for query_set in report["yardsticks"]:
        head, *body = rows_of(report, query_set)
        table = Table(title=f"{query_set}: LDS in %")
        table.add_column(head[0], no_wrap=True)
        for name in head[1:]:
            table.add_column(name, justify="right")
        for row in body:
            table.add_row(*row)
        console.print(table)
    console.print(yardstick_line(report), end="")


@contextmanager
def interruptible() -> Iterator[None]:
    """Bad input is one line, and Ctrl-C says how to go on."""
    try:
        yield
    except InputError as error:
        raise BadInputError(str(error)) from error
    except KeyboardInterrupt:
        typer.echo("headwater: interrupted; the same command goes on from here", err=True)
        raise typer.Exit(130) from None
