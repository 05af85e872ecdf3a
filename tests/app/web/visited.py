"""The installation that the browser visits, and how a test speaks of what it sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from playwright.sync_api import ConsoleMessage, Page

from app.config import Settings

Open = Callable[..., Page]
"""Opens a page of a browser of its own; the options are those of Playwright's contexts."""

SKETCHER = "Cléo <b>Exemple</b>"
NAMED_LIKE_MARKUP = '<img src="x" onerror="window.ran = true">'


@dataclass(frozen=True)
class Visited:
    """A live installation with a model, its index, and an answer about a picture."""

    url: str
    settings: Settings
    http: httpx.Client
    picture: Path
    answer: str
    model: str
    dataset: str
    sketches: str

    def pages(self) -> dict[str, str]:
        """Every kind of page, by name."""
        first = self.http.get(f"/v1/attributions/{self.answer}").json()["result"]["contributors"][0]
        return {
            "ask": "/",
            "answers": "/answers",
            "answer": f"/answers/{self.answer}",
            "nobody's answer": "/answers/atr_none",
            "datasets": "/datasets",
            "dataset": f"/datasets/{self.dataset}",
            "sample": f"/sample?dataset={self.dataset}&key={first['key']}",
            "contributors": "/contributors",
            "contributor": "/contributor?creator=Ada+Example",
            "models": "/models",
            "model": f"/models/{self.model}",
        }


@dataclass
class Told:
    """What the browser complains of.  A refusal by the API is one that a test may expect."""

    complaints: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    def follow(self, page: Page) -> None:
        """Listen to a page.  The browser reports what breaks the policy as an error too."""
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type not in ("error", "warning"):
            return
        known = message.text.startswith("Failed to load resource: the server responded with")
        (self.refusals if known else self.complaints).append(
            f"{message.text} {message.location.get('url', '')}"
        )
