"""What all models have in common."""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict

Item = TypeVar("Item")


class Model(BaseModel):
    """Something that the server has said.

    Fields that a newer server adds are kept (``model_extra``), and states and kinds are plain
    strings: a word that this client does not know is no error.
    """

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())


class Page(Model, Generic[Item]):
    """Some items of a list, and where the next ones begin."""

    items: list[Item]
    next_cursor: str | None = None


class Progress(Model):
    """How far work is: ``fraction`` of the named stage."""

    stage: str | None = None
    fraction: float = 0.0
