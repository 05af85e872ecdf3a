"""The one root of what a user can put right: bad folders, models, configurations, questions."""

from __future__ import annotations


class InputError(ValueError):
    """What was given cannot be used; the text says what and why, and is all that is needed."""
