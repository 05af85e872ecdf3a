"""How fast an index is searched and opened, and how much memory building one needs.

*Scoring* is measured against copying the same bytes, both from memory.  The index is 2 GB of random
directions in the format on disk.  *Building* runs in a process of its own, from images to manifest,
at n and at 10 n images; peak memory is what the system says of that process.

    python benchmarks/search.py
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from report import Report, alternating, seconds
from safetensors.torch import save_file

from attribution.features import Batch, Features, Progress
from attribution.image_set import ImageSet
from attribution.index.build import DIRECTIONS, FACTS, KERNELS, SAMPLES, IndexBuilder
from attribution.index.config import IndexConfig
from attribution.index.manifest import Manifest
from attribution.index.search import Index

OUTPUTS, DIMENSION, BYTES = 4, 4096, 2 * 10**9
CANDIDATES = 1000
BUILD_IMAGES = 2000


def write_index(directory: Path) -> None:
    """A whole index of random rows, written as a build would."""
    n = BYTES // (2 * OUTPUTS * DIMENSION)
    generator = torch.Generator().manual_seed(0)
    with (directory / DIRECTIONS).open("wb") as file:
        for start in range(0, n, 500):
            shape = (min(500, n - start), OUTPUTS, DIMENSION)
            torch.randn(shape, generator=generator).half().numpy().tofile(file)
    names = ("scales", "lengths", "leverages", "solved_lengths", "probed_residuals")
    facts = {name: torch.rand(n, 1, OUTPUTS) for name in names}
    save_file(facts | {"residuals": torch.rand(n, 1)}, directory / FACTS)
    vectors, _ = torch.linalg.qr(torch.randn(DIMENSION, DIMENSION, generator=generator))
    values = torch.logspace(3, -3, DIMENSION, dtype=torch.float64)
    kernel = {"vectors/0": vectors.contiguous(), "values/0": values}
    save_file(kernel, directory / KERNELS)
    (directory / SAMPLES).write_text(json.dumps([f"{i}.png" for i in range(n)]))
    Manifest(
        config=IndexConfig(probes=OUTPUTS, projection_dim=DIMENSION),
        identity="",
        model_digest="",
        clip_digest="",
        samples=n,
        groups=1,
        outputs=OUTPUTS,
        dimension=DIMENSION,
        dampings=[1.0],
        degrees_of_freedom=[1.0],
        files={},
    ).write(directory)


def search(report: Report) -> None:
    """One query through everything, through candidates, and what comes before."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        write_index(directory)
        index = Index(directory)
        query = torch.randn(1, 1, OUTPUTS, DIMENSION)
        stored = torch.from_file(
            str(directory / DIRECTIONS),
            False,
            len(index) * OUTPUTS * DIMENSION,
            dtype=torch.float16,
        )
        target = torch.empty_like(stored)
        ours, copy = alternating(lambda: index.products(query), lambda: target.copy_(stored), 5)
        report.add(
            "2 GB, one query",
            "part of the copy's bandwidth",
            copy / ours,
            "≥ 0.7",
            copy / ours >= 0.7,
            gb_per_second=round(BYTES / ours / 1e9, 2),
            gb_per_second_copy=round(BYTES / copy / 1e9, 2),
        )
        rows = np.sort(np.random.default_rng(0).choice(len(index), CANDIDATES, replace=False))
        some = 1000 * seconds(lambda: index.products(query, rows), 9)
        report.add(f"{CANDIDATES} candidates", "ms", some, "< 10", some < 10)
        opening = 1000 * seconds(lambda: Index(directory), 5)
        report.add(f"{len(index)} images, 2 GB", "ms to open", opening, "< 100", opening < 100)
        solving = 1000 * seconds(lambda: index.precondition(query), 5)
        report.add("H⁻¹φ of one query", "ms", solving, "-", True)


class RandomFeatures:
    """Features that cost nothing, so that a build of many images takes seconds."""

    identity, settings = "random", ""
    shape = (1, 4, 512)

    def __init__(self) -> None:
        self.config = IndexConfig(probes=4, projection_dim=512)

    def extract(self, batch: Batch, on_progress: Progress | None = None) -> Features:
        """Random rows."""
        n = len(batch.keys)
        return Features(torch.randn(n, *self.shape), torch.ones(n, 1), torch.ones(n, 1, 4))


def build_once(images: int) -> None:
    """Build an index of ``images`` images and print the peak memory of this process in MB."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "data").mkdir()
        white = Image.new("RGB", (8, 8), "white")
        for i in range(images):
            white.save(root / "data" / f"{i:06d}.png")
        builder = IndexBuilder(root / "index", RandomFeatures(), ImageSet(root / "data"))
        for shard in builder.shards:
            builder.extract(shard.number)
        builder.finalise(None)
    # Not getrusage: what it says of a child begins with what its parent had when it forked.
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    print(int(peak) / 1024)


def memory(report: Report) -> None:
    """Peak memory at n and at 10 n."""
    peaks = []
    for images in (BUILD_IMAGES, 10 * BUILD_IMAGES):
        command = [sys.executable, __file__, "--build", str(images)]
        peaks.append(float(subprocess.run(command, capture_output=True, check=True).stdout))
    report.add(
        f"building {10 * BUILD_IMAGES} against {BUILD_IMAGES} images",
        "times the peak memory",
        peaks[1] / peaks[0],
        "≤ 1.1",
        peaks[1] / peaks[0] <= 1.1,
        mb=[round(peak) for peak in peaks],
    )


def main() -> None:
    """Measure searching, then building."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--build", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.build:
        build_once(arguments.build)
        return
    report = Report("search", arguments.out)
    search(report)
    memory(report)
    report.end()


if __name__ == "__main__":
    main()
