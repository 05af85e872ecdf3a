"""Interrupt ``headwater scores`` halfway, resume it, and compare with a run left alone.

Every method, on 500 images and four pictures that the demo's model draws.  SIGINT is sent when
half of the training images' shards are written (or, where a method is done sooner, as soon as
there is anything); the resumed file must have the same bytes.

    python benchmarks/resume.py [--images 500] [--timesteps 1] [--methods das trak …]
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import ImageOps

from attribution.denoisers import Denoiser, Drawing
from attribution.image_set import ImageSet
from attribution.methods import METHODS
from demo.dataset import build
from demo.paths import CLIP, MODEL

PROMPTS = ("octopus, openmoji", "hamburger, twemoji", "cactus, openmoji", "penguin, twemoji")
SHARD = 16
SHARDS = "train*/shards/0*"


def main() -> None:
    """Run all methods and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--timesteps", type=int, default=1)
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/resume.json"))
    arguments = parser.parse_args()
    # A shell that runs this in the background has SIGINT ignored, here and in every child.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_images(root / "data", arguments.images)
        draw_queries(root / "queries")
        for method in arguments.methods:
            row = compare(root, method, arguments.timesteps)
            print(json.dumps({"method": method} | row), flush=True)
            rows = known(arguments.out) | {method: row}
            found = {"images": arguments.images, "timesteps": arguments.timesteps, "methods": rows}
            arguments.out.write_text(json.dumps(found, indent=2) + "\n")
    if not all(row["same_file"] for row in known(arguments.out).values()):
        sys.exit("an interrupted run ended otherwise")


def known(out: Path) -> dict[str, dict[str, Any]]:
    """What earlier runs found, by method."""
    if not out.is_file():
        return {}
    rows: dict[str, dict[str, Any]] = json.loads(out.read_text())["methods"]
    return rows


def write_images(folder: Path, count: int) -> None:
    """The demo's emoji, then their mirror images, until there are ``count``."""
    build(folder)
    (folder / "metadata.jsonl").unlink()
    emoji = ImageSet(folder)
    for i in range(count - len(emoji)):
        ImageOps.mirror(emoji.image(i)).save(folder / f"mirrored-{i}.png")


def draw_queries(folder: Path) -> None:
    """Pictures with the prompts and seeds that they come from."""
    folder.mkdir()
    denoiser = Denoiser.load(MODEL)
    rows = []
    for seed, prompt in enumerate(PROMPTS):
        denoiser.generate(prompt, Drawing(seed)).save(folder / f"{seed}.png")
        rows.append(json.dumps({"file_name": f"{seed}.png", "text": prompt, "seed": seed}))
    (folder / "metadata.jsonl").write_text("\n".join(rows) + "\n")


def compare(root: Path, method: str, timesteps: int) -> dict[str, Any]:
    """One method: a run left alone, one interrupted and resumed."""
    whole, resumed = root / f"{method}-whole.npz", root / f"{method}-resumed.npz"
    started = time.monotonic()
    alone = start(root, method, timesteps, whole).wait()
    seconds = time.monotonic() - started
    process = start(root, method, timesteps, resumed)
    partial = root / f"{resumed.name}.partial"
    images = len(list((root / "data").rglob("*.png")))
    while process.poll() is None and len(list(partial.glob(SHARDS))) < images / SHARD / 2:
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    code = process.wait()
    written = len(list(partial.glob(SHARDS)))
    again = start(root, method, timesteps, resumed).wait()
    return {
        "seconds_alone": round(seconds, 1),
        "interrupted_with_code": code,
        "shards_written_by_then": written,
        "same_file": (alone, again) == (0, 0) and whole.read_bytes() == resumed.read_bytes(),
    }


def start(root: Path, method: str, timesteps: int, out: Path) -> subprocess.Popen[bytes]:
    """``headwater scores`` in a process of its own."""
    options: dict[str, object] = {
        "--model": MODEL,
        "--clip": CLIP,
        "--data": root / "data",
        "--queries": root / "queries",
        "--method": method,
        "--timesteps": timesteps,
        "--projection-dim": 1024,
        "--threads": 1,
        "--out": out,
    }
    command = [sys.executable, "-m", "cli.main", "scores"]
    command += [str(part) for pair in options.items() for part in pair]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
