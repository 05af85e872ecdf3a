"""What the page's tests look through: Debian's Chromium, and axe-core for accessibility."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

CACHE = Path(__file__).parent.parent / ".cache"
CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ["--no-sandbox"]  # containers forbid what the sandbox is made of
AXE_VERSION = "4.14.1"
AXE_DIGEST = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"


def axe_core() -> str:
    """The source of axe-core, fetched once with npm; never another than the pinned one."""
    file = CACHE / f"axe-core-{AXE_VERSION}.js"
    if not file.is_file():
        CACHE.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            npm = shutil.which("npm") or "npm"
            command = [npm, "pack", "--silent", f"axe-core@{AXE_VERSION}"]
            subprocess.run(command, cwd=folder, check=True, stdout=sys.stderr)
            with tarfile.open(next(Path(folder).glob("*.tgz"))) as packed:
                packed.extract("package/axe.min.js", folder, filter="data")
            (Path(folder) / "package/axe.min.js").replace(file)
    source = file.read_text()
    found = hashlib.sha256(source.encode()).hexdigest()
    if found != AXE_DIGEST:
        raise ValueError(f"{file} is not axe-core {AXE_VERSION}: its SHA-256 is {found}")
    return source
