"""Errors whose text is all that the user needs."""

from __future__ import annotations


class CommandError(Exception):
    """The command cannot do what was asked; the text says why, in one line."""

    exit_code = 1


class BadInputError(CommandError):
    """What the user gave cannot be used: told apart by the exit code, as wrong options are."""

    exit_code = 2
