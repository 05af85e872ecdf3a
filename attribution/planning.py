"""What an index will cost, before it is built: passes, bytes, memory, and a time where measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from attribution.denoisers import Denoiser
from attribution.errors import InputError
from attribution.features import Batch, GradientFeatures
from attribution.gradients import GradientProjector
from attribution.index.config import REPRESENTATIONS, IndexConfig
from attribution.outputs import output_function

ITEM_BYTES = {"int8": 1, "float16": 2, "bfloat16": 2, "float32": 4}
# Beside a row's numbers, for each output: scale, length, probed residual (float32), leverage and
# solved length (float64); and one residual for each image.
FACT_BYTES, RESIDUAL_BYTES = 3 * 4 + 2 * 8, 4
CLIP_DIMENSION = 512  # of ViT-B/32; float32
# More numbers cost bytes and, by docs/evidence.md, bring little above 4 × 4,096.
LARGEST_DIMENSION, SMALLEST_DIMENSION = 4096, 64
OUTPUTS = 4
SECONDS = 60.0


class PlanError(InputError):
    """Nothing can be planned; the message says why."""


@dataclass(frozen=True)
class Plan:
    """The cost of an index over ``images`` training images.

    ``parameters`` of ``of_parameters`` are selected, in ``layers`` layers; each image takes
    ``forward_passes`` and ``backward_passes``.  ``stored_numbers`` is G·m·k.  ``index_bytes`` is
    what lies on the disk; ``shard_bytes`` lies there beside it while the index is built.
    ``memory_bytes`` counts projections and the kernel with its eigenvectors; the model and its
    passes come on top.  ``seconds_per_image`` was measured on this machine, or is None.
    """

    images: int
    parameters: int
    of_parameters: int
    layers: int
    forward_passes: int
    backward_passes: int
    outputs: int
    dimension: int
    stored_numbers: int
    bytes_per_image: int
    index_bytes: int
    shard_bytes: int
    memory_bytes: int
    seconds_per_image: float | None = None

    @property
    def seconds(self) -> float | None:
        """Of one worker process, for all images."""
        return None if self.seconds_per_image is None else self.seconds_per_image * self.images

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self) | {"seconds": self.seconds}


def plan_for(
    network: nn.Module, shape: tuple[int, int, int], config: IndexConfig, images: int
) -> Plan:
    """Count; nothing is computed, and ``network`` may lie on the meta device."""
    if images < 1:
        raise PlanError(f"an index has one image at least, not {images}")
    if config.output in REPRESENTATIONS:
        raise PlanError(f"output {config.output} takes no gradients: there is nothing to plan")
    projector = GradientProjector(
        network,
        parameters=config.parameters,
        kind=config.projection,
        projection_dim=config.projection_dim,
        factor_side=config.factor_side,
        seed=config.seed,
    )
    m, k = output_function(config.output, config.probes, shape).count, projector.size
    forward = config.timesteps * config.draws * config.checkpoints
    groups = config.checkpoints * (1 if config.average_timesteps else config.timesteps)
    numbers = groups * m * k
    stored = numbers * ITEM_BYTES[config.store] + groups * (m * FACT_BYTES + RESIDUAL_BYTES)
    rank = min(k, m * images)
    kernels = groups * (rank * k * 4 + rank * 8)
    matrices = sum(
        p.numel() * p.element_size()
        for gradient in projector.gradients.values()
        for p in _projections(gradient)
    )
    return Plan(
        images=images,
        parameters=projector.parameters,
        of_parameters=sum(p.numel() for p in network.parameters()),
        layers=len(projector.layers),
        forward_passes=forward,
        backward_passes=forward * m,
        outputs=m,
        dimension=k,
        stored_numbers=numbers,
        bytes_per_image=stored + CLIP_DIMENSION * 4,
        index_bytes=images * (stored + CLIP_DIMENSION * 4) + kernels,
        shard_bytes=images * stored,
        # The Gram matrix and its eigenvectors, in float64.
        memory_bytes=matrices + 2 * 8 * rank * rank + rank * k * 4,
    )


def _projections(gradient: Any) -> list[torch.Tensor]:
    pair = getattr(gradient, "pair", None)
    return [gradient.projection] if pair is None else [pair.p_in, pair.p_out]


def recommended(config: IndexConfig, budget: int, parameters: int) -> IndexConfig:
    """m, k and T for so many bytes an image, CLIP's not counted (docs/evidence.md).

    Four regions at a quarter of the numbers are better than one mean at all of them, and three
    timesteps of little noise do what ten do; so only k is left to choose: the largest power of two
    that fits.
    """
    left = budget - OUTPUTS * FACT_BYTES - RESIDUAL_BYTES
    fitting = left // (OUTPUTS * ITEM_BYTES[config.store])
    k = LARGEST_DIMENSION
    while k > min(fitting, parameters):
        k //= 2
    if k < SMALLEST_DIMENSION:
        least = OUTPUTS * (SMALLEST_DIMENSION * ITEM_BYTES[config.store] + FACT_BYTES)
        raise PlanError(f"{budget} bytes an image are too few: {least + RESIDUAL_BYTES} at least")
    return replace(
        config,
        output="regions",
        probes=OUTPUTS,
        timesteps=3,
        schedule="low-noise",
        projection_dim=k,
    )


def measured(
    plan: Plan,
    denoiser: Denoiser,
    config: IndexConfig,
    count: int = 20,
    on_progress: Callable[[float], None] | None = None,
) -> Plan:
    """The plan with the time that random pictures took: ``count``, or those of one minute."""
    features = GradientFeatures(denoiser, config)
    images = _random_pictures(count)
    caption = "0" if denoiser.family.kind.follows == "class" else ""
    done, started, first = 0, 0.0, True
    batch = 1
    while done < count:
        some = images[done : done + batch]
        if first:
            started = time.perf_counter()
        keys = [f"plan/{done + i}" for i in range(len(some))]
        features.extract(Batch(keys, some, [caption] * len(some), [None] * len(some)))
        elapsed = time.perf_counter() - started
        if first and elapsed < SECONDS:
            # The first call warms caches up: it counts only where there is time for no other.
            first, batch = False, min(16, count)
            started = time.perf_counter()
            continue
        done += len(some)
        if on_progress:
            on_progress(done / count)
        if elapsed > SECONDS:
            break
    return replace(plan, seconds_per_image=(time.perf_counter() - started) / done)


def _random_pictures(count: int) -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [
        Image.fromarray(random.integers(0, 256, (64, 64, 3), dtype=np.uint8)) for _ in range(count)
    ]
