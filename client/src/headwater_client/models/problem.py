"""Problems (RFC 9457)."""

from __future__ import annotations

from headwater_client.models.base import Model


class Problem(Model):
    """An error's description; ``type`` is for programs, ``title`` and ``detail`` for people.

    ``status`` is None where no server has answered.  Those that the client itself finds have a
    ``type`` that begins with ``urn:headwater:client:``.
    """

    type: str = "about:blank"
    title: str = ""
    status: int | None = None
    detail: str | None = None

    @property
    def kind(self) -> str:
        """The end of ``type``, which names the problem: ``quota-exceeded``, for example."""
        return self.type.rpartition(":")[2]
