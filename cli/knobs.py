"""The options that say how scores are computed: the fields of an index's configuration."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from attribution.index.config import IndexConfig
from attribution.model_directory import base_of
from cli.errors import BadInputError

Output = Annotated[
    Literal["regions", "dct", "mean", "loss", "square", "l1", "l2", "linf", "pixels", "clip"]
    | None,
    typer.Option(help="What is differentiated, where the method leaves a choice."),
]
Probes = Annotated[int | None, typer.Option(help="Output directions m (regions: a square number).")]
Timesteps = Annotated[int | None, typer.Option(help="Noise levels averaged over.")]
ScheduleChoice = Annotated[
    Literal["uniform", "cumulative", "low-noise"] | None,
    typer.Option(help="How they are spread."),
]
NoiseChoice = Annotated[
    Literal["per-image", "shared"] | None,
    typer.Option(help="Whether images at one timestep get noise of their own."),
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
FactorSide = Annotated[
    int | None, typer.Option(help="Numbers that each factor of a layer keeps before they meet.")
]
Damping = Annotated[
    str | None,
    typer.Option(
        help="λ in units of the kernel's mean eigenvalue; as it stands, absolute:λ; or"
        " directions:d, the λ that leaves to each output d effective directions."
    ),
]
Seed = Annotated[int | None, typer.Option(help="Of noise and projections.")]
Store = Annotated[
    Literal["int8", "float16", "bfloat16", "float32"] | None,
    typer.Option(help="Precision of the stored gradients."),
]


def knobs_said(options: dict[str, Any]) -> dict[str, Any]:
    """The fields of an index's configuration that were said.

    Of a model with a LoRA, the LoRA's weights are looked at alone unless others are said; a server
    sees to that itself.
    """
    names = {field.name for field in fields(IndexConfig)} - {"damping"}
    knobs = {name: value for name, value in options.items() if name in names and value is not None}
    if (
        "server" not in options
        and isinstance(model := options.get("model"), Path)
        and base_of(model)
    ):
        knobs = {"parameters": "lora"} | knobs
    damping: str | None = options["damping"]
    if damping is None:
        return knobs
    before, colon, number = damping.rpartition(":")
    rule = before if colon else "relative"
    try:
        return knobs | {"damping_rule": rule, "damping": float(number)}
    except ValueError:
        raise BadInputError(
            f"--damping: a number, absolute:NUMBER or directions:NUMBER, not {damping!r}"
        ) from None
