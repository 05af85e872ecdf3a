"""What a command says at its end: a line for people, or JSON for programs."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")]


def tell(as_json: bool, line: str, outcome: Any) -> None:
    """Print one of the two to stdout; paths and dates in JSON are strings."""
    if as_json:
        typer.echo(json.dumps(outcome, indent=2, ensure_ascii=False, default=str))
    else:
        typer.echo(line)
