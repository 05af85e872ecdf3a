"""The table of scores: one short class each."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from attribution.index.config import IndexConfig
from attribution.methods.das import Das, DasMean, DasSigned
from attribution.methods.dtrak import DTrak


class MethodError(ValueError):
    """The method is unknown, or the index does not hold what it needs."""


class Method(Protocol):
    """How effects ``(n, m)`` and residuals ``(n,)`` become one score per training image."""

    @property
    def name(self) -> str:
        """The name by which it is asked for."""
        ...

    @property
    def section(self) -> str:
        """Where the paper defines it."""
        ...

    @property
    def outputs(self) -> tuple[str, ...]:
        """The kinds of index that it can be computed from (see ``index_kind``)."""
        ...

    def score(
        self, effects: NDArray[np.float64], residuals: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Scores ``(n,)``."""
        ...


METHODS: dict[str, Method] = {
    method.name: method for method in (Das(), DasSigned(), DasMean(), DTrak())
}


def index_kind(config: IndexConfig) -> str:
    """An index's output, where a 1 × 1 grid is the mean by its proper name."""
    return "mean" if config.output != "square" and config.grid == 1 else config.output


def methods_of(config: IndexConfig) -> list[str]:
    """The methods that an index of this configuration answers."""
    return [name for name, method in METHODS.items() if index_kind(config) in method.outputs]


def method_for(name: str, config: IndexConfig) -> Method:
    """Look a method up, making sure that the index can serve it."""
    if name not in METHODS:
        raise MethodError(f"unknown method {name!r} ({', '.join(METHODS)})")
    if name not in methods_of(config):
        raise MethodError(
            f"method {name} needs another index: this one answers {', '.join(methods_of(config))}"
        )
    return METHODS[name]
