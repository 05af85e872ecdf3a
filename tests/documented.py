"""The commands that the documentation shows, as somebody would type them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    *sorted(ROOT.glob("docs/*.md")),
    ROOT / "client" / "README.md",
]
FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"(?<!`)`(headwater [^`]+)`(?!`)")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    language: str
    text: str


def blocks(*languages: str) -> Iterator[Block]:
    """The blocks of all pages in these languages, in their order."""
    for page in PAGES:
        name = page.relative_to(ROOT).as_posix()
        for _, language, text in FENCE.findall(page.read_text(encoding="utf-8")):
            if language in languages:
                yield Block(name, language, text)


def commands(block: Block) -> list[str]:
    """The commands of a shell's block, each in one line, without what is said behind them."""
    joined = re.sub(r"\\\n\s*", "", block.text)
    lines = (line.partition("  #")[0].strip() for line in joined.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def spoken() -> Iterator[tuple[str, str]]:
    """What is named in running text: page and command."""
    for page in PAGES:
        text = FENCE.sub("", page.read_text(encoding="utf-8"))
        for command in INLINE.findall(text):
            yield page.relative_to(ROOT).as_posix(), " ".join(command.split())
