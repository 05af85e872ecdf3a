"""What an index is made of: everything that decides its numbers, and nothing else.

Nothing here imports torch: the API checks configurations at its door.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

OutputName = Literal["regions", "dct", "square"]
Schedule = Literal["uniform", "cumulative"]
Normalisation = Literal["none", "timestep", "elementwise"]
StoreType = Literal["float16", "float32"]


class ConfigError(ValueError):
    """A field is unknown or out of range; the message names it."""


@dataclass(frozen=True)
class IndexConfig:
    """The knobs of an index.

    ``output`` and ``grid`` choose the differentiated scalars (``regions``: grid² cells; ``dct``:
    grid² cosine modes; ``square``: D-TRAK's one).  ``damping`` is λ relative to the mean
    eigenvalue of the kernel.
    """

    output: OutputName = "regions"
    grid: int = 2
    timesteps: int = 10
    schedule: Schedule = "uniform"
    normalisation: Normalisation = "none"
    parameters: str = "all"
    projection_dim: int = 4096
    damping: float = 0.03
    seed: int = 0
    store: StoreType = "float16"

    def __post_init__(self) -> None:
        _one_of("output", self.output, get_args(OutputName))
        _one_of("schedule", self.schedule, get_args(Schedule))
        _one_of("normalisation", self.normalisation, get_args(Normalisation))
        _one_of("store", self.store, get_args(StoreType))
        _integer("grid", self.grid, 1, 16)
        _integer("timesteps", self.timesteps, 1, 1000)
        _integer("projection_dim", self.projection_dim, 1, 65_536)
        _integer("seed", self.seed, 0, 2**31 - 1)
        if not isinstance(self.parameters, str):
            raise ConfigError("parameters must be a string")
        if (
            isinstance(self.damping, bool)
            or not isinstance(self.damping, int | float)
            or not (math.isfinite(self.damping) and self.damping > 0)
        ):
            raise ConfigError(f"damping must be a positive number, not {self.damping!r}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> IndexConfig:
        """Read a configuration, refusing unknown fields."""
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            raise ConfigError(f"unknown fields: {', '.join(sorted(unknown))}")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; ``from_dict`` reads it back."""
        return asdict(self)

    def digest(self) -> str:
        """SHA-256 of the configuration, in hexadecimal."""
        canonical = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{name} must be one of {', '.join(allowed)}, not {value!r}")


def _integer(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{name} must be a whole number in {low}..{high}, not {value!r}")
