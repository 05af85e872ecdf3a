"""Folders that the API tests register."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Places:
    """Folders to register: real in layout; the weights are never loaded by the API."""

    dataset: Path
    model: Path
    clip: Path
