"""Which methods a stored index version answers."""

from __future__ import annotations

from app.database.tables import IndexVersion
from attribution.index.config import ConfigError, IndexConfig
from attribution.methods import methods_of


def served_methods(index: IndexVersion) -> list[str]:
    """The methods that the version answers; none if an older release built it."""
    try:
        return methods_of(IndexConfig.from_dict(index.config))
    except ConfigError:
        return []
