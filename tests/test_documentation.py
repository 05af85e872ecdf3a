"""The documentation's site builds, and no link of it leads nowhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#\s]+)")
PAGES = [*ROOT.glob("docs/*.md"), ROOT / "README.md", ROOT / "client" / "README.md"]


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    strict = ("--fail-on-warning", "--keep-going", "--quiet", "--fresh-env")
    command = [sys.executable, "-m", "sphinx", *strict, ROOT / "docs", tmp_path / "site"]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr


def test_links_between_files_lead_somewhere() -> None:
    """Also on the repository's own pages, where no site is built."""
    lost = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in PAGES
        for target in LINK.findall(page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert not lost
