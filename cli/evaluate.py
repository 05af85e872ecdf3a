"""``headwater evaluate …``: how good is an attribution?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cli.errors import BadInputError
from cli.knobs import (
    Checkpoints,
    Damping,
    Draws,
    FactorSide,
    NoiseChoice,
    NormalisationChoice,
    Output,
    Parameters,
    Probes,
    Projection,
    ProjectionDim,
    ScheduleChoice,
    Seed,
    Store,
    Timesteps,
    knobs_said,
)
from cli.method_names import method_names
from cli.outcome import AsJson, tell
from cli.server_option import LOCAL_SERVER, Server

if TYPE_CHECKING:
    from cli.evaluation import Retraining

app = typer.Typer(
    no_args_is_help=True,
    help="""Measure how good attributions are, by training again without some of the images.""",
)

Model = Annotated[Path, typer.Option(help="The diffusers directory that is attributed.")]
Data = Annotated[Path, typer.Option(help="The folder of images it was trained on.")]
Queries = Annotated[
    list[str],
    typer.Option(help="A folder of pictures asked about, as NAME=FOLDER; may be repeated."),
]
Truth = Annotated[
    Path, typer.Option(help="The ground truth: a small .npz file, measured once and reused.")
]
Subsets = Annotated[int, typer.Option(min=3, help="How many subsets of the images.")]
Fraction = Annotated[float, typer.Option(help="The part of the images in each of them.")]
Stratify = Annotated[
    Literal["none", "folder", "text", "creator", "licence"],
    typer.Option(help="What each subset holds the same part of."),
]
LeaveOut = Annotated[
    Literal["none", "folder", "text", "creator", "licence"],
    typer.Option(
        help="Instead of random subsets: all images, and then all but those of each group in turn."
    ),
]
SubsetSeed = Annotated[int, typer.Option(min=0, help="Of the subsets.")]
TrainingSeeds = Annotated[int, typer.Option(min=1, help="How often each subset is trained on.")]
TrainCommand = Annotated[
    str | None,
    typer.Option(
        help="A program that trains, with {data}, {out} and {seed}; otherwise the model is trained"
        " again as its training.json says."
    ),
]
LossTimesteps = Annotated[
    int, typer.Option(min=1, help="Timesteps over which a retrained model's loss is measured.")
]
LossDraws = Annotated[int, typer.Option(min=1, help="Draws of noise at each of them.")]
Processes = Annotated[
    int | None, typer.Option(min=1, help="Processes of one thread; one a processor otherwise.")
]


@app.command()
def retrain(
    context: typer.Context,
    data: Data,
    queries: Queries,
    truth: Truth,
    model: Annotated[
        Path | None, typer.Option(help="The model whose training is repeated on each subset.")
    ] = None,
    subsets: Subsets = 64,
    fraction: Fraction = 0.5,
    stratify: Stratify = "none",
    subset_seed: SubsetSeed = 0,
    leave_out: LeaveOut = "none",
    training_seeds: TrainingSeeds = 2,
    train_command: TrainCommand = None,
    loss_timesteps: LossTimesteps = 50,
    loss_draws: LossDraws = 1,
    processes: Processes = None,
    as_json: AsJson = False,
) -> None:
    """Train a model on each of many subsets, and measure what it makes of the queries.

    TRUTH is written after every model: interrupted, the same command goes on where it stopped, and
    with more subsets or seeds it goes on from what is there.
    """
    from cli.evaluation import interruptible, make_ground_truth

    retraining = _retraining(context.params)
    with interruptible():
        measured = make_ground_truth(retraining, _processes(processes))
    models, asked = measured.measured.size, len(measured.query_keys)
    outcome = {"truth": truth, "models": int(models), "queries": asked}
    tell(as_json, f"{truth}: {models} models asked {asked} queries", outcome)


@app.command()
def lds(
    context: typer.Context,
    model: Model,
    data: Data,
    queries: Queries,
    truth: Truth,
    out: Annotated[
        Path, typer.Option(help="The .json file to write; a table goes beside it, as .md.")
    ],
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="One of `headwater methods`; may be repeated.  Otherwise all that can.",
            autocompletion=method_names,
        ),
    ] = None,
    clip: Annotated[str | None, typer.Option(help="The open_clip directory.")] = None,
    work: Annotated[
        Path | None, typer.Option(help="Where features are kept; OUT.features otherwise.")
    ] = None,
    subsets: Subsets = 64,
    fraction: Fraction = 0.5,
    stratify: Stratify = "none",
    subset_seed: SubsetSeed = 0,
    training_seeds: TrainingSeeds = 2,
    train_command: TrainCommand = None,
    loss_timesteps: LossTimesteps = 50,
    loss_draws: LossDraws = 1,
    processes: Processes = None,
    probes: Probes = None,
    output: Output = None,
    timesteps: Timesteps = None,
    schedule: ScheduleChoice = None,
    noise: NoiseChoice = None,
    draws: Draws = None,
    normalisation: NormalisationChoice = None,
    checkpoints: Checkpoints = None,
    parameters: Parameters = None,
    projection: Projection = None,
    projection_dim: ProjectionDim = None,
    factor_side: FactorSide = None,
    damping: Damping = None,
    seed: Seed = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """The linear datamodelling score of methods: do their scores foretell retraining?

    What TRUTH lacks is trained first.  λ is what an index would use (label-free), and the best of a
    grid (oracle), which nobody without the ground truth can choose.
    """
    from rich.console import Console

    from cli.evaluation import (
        Evaluation,
        interruptible,
        make_ground_truth,
        measure_lds,
        show_lds,
    )

    if out.suffix != ".json":
        raise BadInputError(f"--out: {out} should end in .json")
    evaluation = Evaluation(
        model=model,
        data=data,
        queries=_named(queries),
        clip=clip,
        work=work or out.with_suffix(".features"),
        out=out,
        methods=method or [],
        knobs=knobs_said(context.params),
    )
    retraining = _retraining(context.params)
    with interruptible():
        evaluation.cases()  # what is misspelt is said before an hour of training
        measured = make_ground_truth(retraining, _processes(processes))
        report = measure_lds(evaluation, measured, _processes(processes))
    if not as_json:
        show_lds(report, Console())
    line = f"{out} and {out.with_suffix('.md')} are written"
    tell(as_json, line, json.loads(out.read_bytes()))


@app.command()
def counterfactual(
    context: typer.Context,
    model: Model,
    data: Data,
    queries: Annotated[
        Path, typer.Option(help="A folder that `headwater draw` wrote: pictures with their seeds.")
    ],
    out: Annotated[
        Path, typer.Option(help="The .json file to write; a table and a picture go beside it.")
    ],
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="One of `headwater methods`; das and dtrak otherwise.", autocompletion=method_names
        ),
    ] = None,
    remove: Annotated[int, typer.Option(min=1, help="How many images to delete.")] = 100,
    count: Annotated[
        int | None, typer.Option(min=2, help="So many of the pictures; all otherwise.")
    ] = None,
    random: Annotated[int, typer.Option(min=1, help="Random deletions to compare with.")] = 3,
    steps: Annotated[int, typer.Option(min=1, help="Steps of DDIM that drew them.")] = 50,
    guidance_scale: Annotated[float, typer.Option(help="Of the drawing.")] = 1.0,
    clip: Annotated[str | None, typer.Option(help="The open_clip directory.")] = None,
    work: Annotated[
        Path | None, typer.Option(help="Where features are kept; OUT.features otherwise.")
    ] = None,
    train_command: TrainCommand = None,
    processes: Processes = None,
    timesteps: Timesteps = None,
    schedule: ScheduleChoice = None,
    noise: NoiseChoice = None,
    projection_dim: ProjectionDim = None,
    factor_side: FactorSide = None,
    damping: Damping = None,
    as_json: AsJson = False,
) -> None:
    """Delete each picture's most influential images, train and draw again: does it change?

    Every picture costs a training for each method.  Interrupted, the same command goes on.
    """
    from rich.console import Console

    from cli.evaluation import (
        Counterfactual,
        interruptible,
        measure_counterfactual,
        show_counterfactual,
    )

    if out.suffix != ".json":
        raise BadInputError(f"--out: {out} should end in .json")
    asked = Counterfactual(
        model=model,
        data=data,
        queries=queries,
        out=out,
        work=work or out.with_suffix(".features"),
        methods=method or ["das", "dtrak"],
        knobs=knobs_said(context.params),
        remove=remove,
        count=count,
        random=random,
        steps=steps,
        guidance_scale=guidance_scale,
        clip=clip,
        train_command=train_command,
    )
    with interruptible():
        report = measure_counterfactual(asked, _processes(processes))
    if not as_json:
        show_counterfactual(report, Console())
    line = f"{out}, {out.with_suffix('.md')} and {out.with_suffix('.png')} are written"
    tell(as_json, line, json.loads(out.read_bytes()))


@app.command()
def report(
    results: Annotated[list[Path], typer.Argument(help="Files that `evaluate lds` wrote.")],
    out: Annotated[Path, typer.Option(help="The .md file to write; pictures go beside it.")],
    as_json: AsJson = False,
) -> None:
    """One page of several results, with a picture of each."""
    from cli.evaluation import interruptible, write_report

    if out.suffix != ".md":
        raise BadInputError(f"--out: {out} should end in .md")
    with interruptible():
        write_report(results, out)
    tell(as_json, f"{out} is written", {"out": out, "results": results})


@app.command()
def record(
    result: Annotated[Path, typer.Argument(help="A file that `evaluate lds` wrote.")],
    model: Annotated[str, typer.Option(help="The model's name on the server.")],
    data: Annotated[str, typer.Option(help="The name of its training images there.")],
    as_json: AsJson = False,
    server: Server = LOCAL_SERVER,
) -> None:
    """Give a result to the server: indexes of that configuration, and answers, then carry it."""
    from cli.client import Client

    try:
        content = json.loads(result.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInputError(f"{result} is no result of evaluate lds: {error}") from None
    with Client(server) as client:
        kept = client.record_evidence(model, data, content)
    tell(as_json, f"{len(kept)} measured scores are known of {model}", kept)


def _retraining(options: dict[str, Any]) -> Retraining:
    from dataclasses import fields

    from cli.evaluation import Retraining

    named = [field.name for field in fields(Retraining) if field.name in options]
    said = {name: options[name] for name in named}
    return Retraining(**said | {"queries": _named(options["queries"])})


def _processes(said: int | None) -> int:
    import os

    return said or os.cpu_count() or 1


def _named(queries: list[str]) -> dict[str, Path]:
    """NAME=FOLDER, or FOLDER, which is then its own name."""
    named: dict[str, Path] = {}
    for text in queries:
        name, equals, folder = text.partition("=")
        path = Path(folder if equals else text)
        name = name if equals else path.name
        if not name or "/" in name or name in named:
            raise BadInputError(f"--queries: {text!r} has no name of its own; say NAME=FOLDER")
        named[name] = path
    return named
