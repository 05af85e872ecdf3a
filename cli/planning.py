"""What ``headwater plan`` prints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from attribution.denoisers import Denoiser
from attribution.errors import InputError
from attribution.index.config import IndexConfig
from attribution.known_models import KNOWN_MODELS
from attribution.methods import config_for
from attribution.planning import Plan, measured, plan_for, recommended
from cli.errors import BadInputError
from cli.progress import stage_progress


def make_plan(
    model: str,
    lora: Path | None,
    images: int,
    knobs: dict[str, Any],
    method: str | None,
    budget: int | None,
    timed: int,
) -> tuple[Plan, IndexConfig]:
    """The plan of an index, and the configuration it is of."""
    try:
        known = KNOWN_MODELS.get(model)
        denoiser = None
        if known is None or Path(model).exists():
            denoiser = Denoiser.load(model, lora=lora)
            network, shape, adapted = denoiser.network, denoiser.shape, denoiser.adapted
        elif lora is not None:
            raise InputError("--lora goes with a model's directory")
        else:
            network, shape, adapted = known.build(), known.shape, known.lora_rank is not None
        if adapted:
            knobs = {"parameters": "lora"} | knobs
        config = IndexConfig.from_dict(knobs) if method is None else config_for(method, **knobs)
        if budget is not None:
            least = replace(config, projection_dim=1)
            selected = plan_for(network, shape, least, 1).parameters
            config = recommended(config, budget, selected)
        plan = plan_for(network, shape, config, images)
        if denoiser is not None and timed:
            with stage_progress("timing") as advance:
                plan = measured(plan, denoiser, config, timed, lambda done: advance("images", done))
    except InputError as error:
        told = str(error)
        if not Path(model).exists():
            told += f"; models that are described: {', '.join(KNOWN_MODELS)}"
        raise BadInputError(told) from error
    return plan, config


def plan_table(title: str, plan: Plan, config: IndexConfig) -> Table:
    """The plan for people."""
    table = Table(box=box.SIMPLE, show_header=False, title=title, title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column()
    share = plan.parameters / plan.of_parameters
    table.add_row(
        "parameters looked at",
        f"{plan.parameters:,} of {plan.of_parameters:,} ({share:.0%}), {plan.layers} layers",
    )
    table.add_row(
        "kept of each image",
        f"m × k = {plan.outputs} × {plan.dimension:,} numbers, {config.store}:"
        f" {sized(plan.bytes_per_image)}",
    )
    table.add_row(
        "passes for each image", f"{plan.forward_passes} forward, {plan.backward_passes} backward"
    )
    table.add_row(
        f"index of {plan.images:,} images",
        f"{sized(plan.index_bytes)}, and {sized(plan.shard_bytes)} more while it is built",
    )
    table.add_row("memory beside the model", sized(plan.memory_bytes))
    if plan.seconds_per_image is not None and plan.seconds is not None:
        table.add_row(
            "time, one worker here",
            f"{plan.seconds_per_image:.3g} s an image, {lasting(plan.seconds)} in all",
        )
    return table


def sized(count: int) -> str:
    """Bytes in the unit that reads best."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def lasting(seconds: float) -> str:
    """A duration in the unit that reads best."""
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} seconds"
