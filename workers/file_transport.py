"""kombu's filesystem transport, with messages that appear whole."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, filesystem
from kombu.utils.json import dumps


class Channel(filesystem.Channel):  # type: ignore[misc]  # kombu is untyped
    """Renames a message into its queue.

    kombu's own creates the file and then writes it; a worker that looks in between takes an empty
    message, which it cannot parse, and dies of it.
    """

    def _put(self, queue: str, payload: Any, **_: Any) -> None:
        folder = Path(self.data_folder_out)
        name = f"{round(time.monotonic() * 1000)}_{uuid.uuid4()}.{queue}.msg"
        # No queue reads this name: a reader compares all that follows the first dot.
        unfinished = folder / f"{name}.part"
        unfinished.write_text(dumps(payload))
        unfinished.rename(folder / name)


class Transport(filesystem.Transport):  # type: ignore[misc]  # kombu is untyped
    """What ``filesystem://`` means once ``install`` has run."""

    Channel = Channel


def install() -> None:
    """Put this transport in the place of kombu's."""
    TRANSPORT_ALIASES["filesystem"] = f"{__name__}:Transport"
