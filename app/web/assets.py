"""Modules, style sheet and icon, under addresses that change with their content.

Modules import each other by relative addresses, so the digest stands before the name and a browser
that has one of a release's files has all of them from that release.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True)
class Asset:
    """One file as it is sent."""

    content: bytes
    media_type: str


class Assets:
    """All files of the page, held in memory: some tens of kilobytes."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.by_name = {
            name: Asset(content, MEDIA_TYPES[name[name.rindex(".") :]])
            for name, content in files.items()
        }
        whole = hashlib.sha256()
        for name in sorted(files):
            whole.update(f"{name} {len(files[name])} ".encode() + files[name])
        self.digest = whole.hexdigest()[:16]

    @classmethod
    def of_package(cls) -> Assets:
        """Those that lie beside this module."""
        folder = resources.files("app.web") / "static"
        return cls({file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()})

    def url(self, name: str) -> str:
        """Where a browser finds a file; a name that is none is a KeyError, not a broken page."""
        self.by_name[name]
        return f"/static/{self.digest}/{name}"
