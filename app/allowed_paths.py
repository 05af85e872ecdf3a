"""Paths that a client may name: only those below configured roots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from app.problems import ProblemError


def allowed_directory(path: str, roots: Sequence[Path]) -> Path:
    """The directory behind ``path``, links resolved, if it lies below a root; else a problem."""
    resolved = allowed_path(path, roots)
    if not resolved.is_dir():
        raise ProblemError(422, "path-not-found", "The path is not a directory", path)
    return resolved


def allowed_path(path: str, roots: Sequence[Path]) -> Path:
    """The file or directory behind ``path``, links resolved, if below a root; else a problem.

    Outside the roots the answer does not tell whether the path exists.
    """
    try:
        resolved = Path(path).resolve()
        allowed = any(resolved.is_relative_to(root) for root in roots)
    except (OSError, ValueError, RuntimeError):  # RuntimeError: links in a circle
        allowed = False
    if not allowed:
        raise ProblemError(422, "path-not-allowed", "The path lies outside the allowed roots", path)
    if not resolved.exists():
        raise ProblemError(422, "path-not-found", "The path leads to nothing", path)
    return resolved
