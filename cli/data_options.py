"""The options that say how the server shall read training images."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.errors import BadInputError

Fields = Annotated[
    list[str] | None,
    typer.Option(
        "--field",
        help="Under which name the data has what, as in creator=artist; may be repeated.",
    ),
]
SkipInvalid = Annotated[
    bool,
    typer.Option("--skip-invalid", help="Leave out images that cannot be used, and say which."),
]


def fields_said(fields: list[str] | None) -> dict[str, str]:
    """``--field creator=artist`` as the API takes it."""
    said = {}
    for text in fields or ():
        field, equals, name = text.partition("=")
        if not (field and equals and name):
            raise BadInputError(f"--field: {text!r} is not of the form creator=artist")
        said[field] = name
    return said
