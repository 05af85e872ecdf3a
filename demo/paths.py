"""Where the demo keeps its things, all below the repository's ``demo/`` folder."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent
DATA = ROOT / "data"
MODEL = ROOT / "weights" / "model"
CLIP = ROOT / "weights" / "clip"
HOME = ROOT / "var"
OUT = ROOT / "out"
