"""What an index is made of: everything that decides its numbers, and nothing else.

Nothing here imports torch: the API checks configurations at its door.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from attribution.errors import InputError

OutputName = Literal[
    "regions", "dct", "mean", "loss", "square", "l1", "l2", "linf", "pixels", "clip"
]
Schedule = Literal["uniform", "cumulative", "low-noise"]
Noise = Literal["per-image", "shared"]
Normalisation = Literal["none", "timestep", "elementwise"]
ProjectionKind = Literal["two-sided", "gaussian", "rademacher", "identity"]
DampingRule = Literal["relative", "absolute", "directions"]
StoreType = Literal["int8", "float16", "bfloat16", "float32"]

# Outputs with several probes; every other output is one scalar or one vector.
PROBED = ("regions", "dct")
# What is compared as it is: images, not gradients.
REPRESENTATIONS = ("pixels", "clip")
LARGEST_DAMPING = 1e30
LONGEST_PATTERN = 500
LOOPS = 3
NUMBERS_PER_IMAGE = 2**28


class ConfigError(InputError):
    """A field is unknown or out of range; the message names it."""


@dataclass(frozen=True)
class IndexConfig:
    """The knobs of an index, and of ``headwater scores``.

    ``output``: what is differentiated: ``regions`` (the means over ``probes`` = r² cells), ``dct``
    (as many cosine modes), ``mean``, the training ``loss``, or a norm of the model's output
    (``square``, ``l1``, ``l2``, ``linf``); or what is compared as it is, ``pixels`` or ``clip``.
    ``draws`` of noise are averaged at each of the ``timesteps``, spread as ``schedule`` says; the
    ``noise`` is each image's own, or ``shared`` by all at a timestep; ``average_timesteps=False``
    keeps those apart, with a kernel each (``das-t``).  ``checkpoints`` of the training are used,
    the finished model the last.  ``projection_dim`` is k; a ``two-sided`` projection leaves to each
    factor of a layer ``factor_side`` numbers at least, and folds what that gives to k.  ``damping``
    is λ, ``relative`` to the kernel's mean eigenvalue or ``absolute``, or the effective number of
    ``directions`` (degrees of freedom) that it leaves to each output.
    """

    output: OutputName = "regions"
    probes: int = 4
    timesteps: int = 3
    schedule: Schedule = "low-noise"
    noise: Noise = "shared"
    draws: int = 1
    average_timesteps: bool = True
    normalisation: Normalisation = "none"
    checkpoints: int = 1
    parameters: str = "all"
    projection: ProjectionKind = "two-sided"
    projection_dim: int = 4096
    factor_side: int = 16
    damping: float = 50.0
    damping_rule: DampingRule = "directions"
    seed: int = 0
    store: StoreType = "int8"

    def __post_init__(self) -> None:
        _one_of("output", self.output, get_args(OutputName))
        _one_of("schedule", self.schedule, get_args(Schedule))
        _one_of("noise", self.noise, get_args(Noise))
        _one_of("normalisation", self.normalisation, get_args(Normalisation))
        _one_of("projection", self.projection, get_args(ProjectionKind))
        _one_of("damping_rule", self.damping_rule, get_args(DampingRule))
        _one_of("store", self.store, get_args(StoreType))
        _integer("probes", self.probes, 1, 256)
        _integer("timesteps", self.timesteps, 1, 1000)
        _integer("draws", self.draws, 1, 100)
        _integer("checkpoints", self.checkpoints, 1, 100)
        _integer("projection_dim", self.projection_dim, 1, 65_536)
        _integer("factor_side", self.factor_side, 1, 256)
        _integer("seed", self.seed, 0, 2**31 - 1)
        if not isinstance(self.average_timesteps, bool):
            raise ConfigError("average_timesteps must be true or false")
        if not isinstance(self.parameters, str) or len(self.parameters) > LONGEST_PATTERN:
            raise ConfigError(f"parameters must be at most {LONGEST_PATTERN} characters")
        check_pattern(self.parameters)
        if isinstance(self.damping, bool) or not isinstance(self.damping, int | float):
            raise ConfigError(f"damping must be a positive number, not {self.damping!r}")
        if not 0 < self.damping <= LARGEST_DAMPING:
            raise ConfigError(f"damping must be above 0 and at most {LARGEST_DAMPING:g}")
        object.__setattr__(self, "damping", float(self.damping))
        if self.output == "regions" and math.isqrt(self.probes) ** 2 != self.probes:
            raise ConfigError(f"probes must be a square number for regions, not {self.probes}")
        if self.normalisation == "elementwise" and not self.average_timesteps:
            raise ConfigError("elementwise normalisation needs timesteps that are averaged")
        if self.output not in PROBED:
            object.__setattr__(self, "probes", 1)  # so that equal configurations are equal
        elif self.probes == 1:
            object.__setattr__(self, "output", "mean")  # one region, or the lowest mode
        apart = 1 if self.average_timesteps else self.timesteps
        if apart * self.checkpoints * self.probes * self.projection_dim > NUMBERS_PER_IMAGE:
            raise ConfigError(
                "probes × checkpoints × projection_dim (× timesteps that are kept apart) must be at"
                f" most {NUMBERS_PER_IMAGE}"
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> IndexConfig:
        """Read a configuration, refusing unknown fields."""
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            told = ", ".join(ascii(name) for name in sorted(unknown))
            raise ConfigError(f"unknown fields: {told[:200]}")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; ``from_dict`` reads it back."""
        return asdict(self)

    def digest(self) -> str:
        """SHA-256 of the configuration, in hexadecimal."""
        canonical = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def check_pattern(parameters: str) -> None:
    """A regular expression in which nothing that repeats is repeated: matching it takes no time.

    A worker that searches ``(a+)+b`` in a layer's name would never come back.
    """
    if not parameters.isprintable():
        raise ConfigError("parameters holds a character that cannot be stored")
    if re.search(r"\)[*+{]", parameters) or len(re.findall(r"[*+{]", parameters)) > LOOPS:
        raise ConfigError(f"parameters: {parameters!r} repeats a group, or more than {LOOPS} times")
    try:
        re.compile(parameters)
    except (re.error, RecursionError, OverflowError) as error:
        raise ConfigError(f"parameters: {parameters!r} is no regular expression: {error}") from None


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{name} must be one of {', '.join(allowed)}, not {value!r}")


def _integer(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{name} must be a whole number in {low}..{high}, not {value!r}")
