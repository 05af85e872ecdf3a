"""Errors whose text is all that the user needs."""

from __future__ import annotations


class CommandError(Exception):
    """The command cannot do what was asked; the text says why, in one line."""
