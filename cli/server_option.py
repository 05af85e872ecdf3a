"""The option of every command that talks to a server."""

from __future__ import annotations

from typing import Annotated

import typer

LOCAL_SERVER = "http://127.0.0.1:8000"

Server = Annotated[
    str,
    typer.Option("--server", envvar="HEADWATER_SERVER", help="Where `headwater serve` listens."),
]
