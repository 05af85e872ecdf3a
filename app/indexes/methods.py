"""Which methods there are, and which a stored index version answers."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

from app.database.tables import IndexVersion
from attribution.index.config import ConfigError, IndexConfig
from attribution.methods import METHODS, method_named, methods_of

MethodName = Annotated[
    str,
    AfterValidator(lambda name: method_named(name).name),
    WithJsonSchema({"type": "string", "enum": list(METHODS)}),
]


def served_methods(index: IndexVersion) -> list[str]:
    """The methods that the version answers; none if an older release built it."""
    try:
        return methods_of(IndexConfig.from_dict(index.config))
    except ConfigError:
        return []
