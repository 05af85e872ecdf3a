"""How fast training images are registered, and how much memory that needs.

Photographs of 256 × 256 pixels (noise and shapes, as JPEG), of which one in a hundred is spoilt:
cut off, under no known licence, or with metadata that is no JSON.  Each registration runs in a
process of its own, against an embedded database.  The reference hashes and decodes the same bytes
with Pillow in one thread, and does nothing else.

    python benchmarks/registration.py --images 100000
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw
from report import Report

SIZE, KINDS = 256, 200
A_SHARD = 5000
SPOILT = {7: "cut off", 107: "no licence", 207: "no json"}
ROW_GROUP = 200


def photographs() -> list[bytes]:
    """JPEGs of the size and detail of photographs."""
    generator, found = np.random.default_rng(0), []
    for _ in range(KINDS):
        noise = generator.normal(128, 25, (SIZE // 4, SIZE // 4, 3)).clip(0, 255).astype(np.uint8)
        image = Image.fromarray(noise).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        left, top, right, bottom = sorted(map(int, generator.integers(0, SIZE, 4)))
        ImageDraw.Draw(image).ellipse((left, top, right + 1, bottom + 1), fill="teal")
        written = io.BytesIO()
        image.save(written, "JPEG", quality=85)
        found.append(written.getvalue())
    return found


def samples(n: int) -> Iterator[tuple[bytes, str]]:
    """Each image and its metadata; no two files are the same."""
    pictures = photographs()
    for number in range(n):
        fault = SPOILT.get(number % 300)
        picture = pictures[number % KINDS] + number.to_bytes(4)
        said = {"text": f"picture {number}", "creator": f"artist {number % 97}"}
        said["licence"] = "free for all" if fault == "no licence" else "CC-BY-4.0"
        row = "{" if fault == "no json" else json.dumps(said)
        yield (picture[: len(picture) // 2] if fault == "cut off" else picture), row


def write_tars(root: Path, n: int) -> None:
    """WebDataset shards."""
    some = samples(n)
    for start in range(0, n, A_SHARD):
        with tarfile.open(root / f"{start:08}.tar", "w") as archive:
            for number, (picture, row) in enumerate(islice(some, A_SHARD), start=start):
                for suffix, content in (("jpg", picture), ("json", row.encode())):
                    member = tarfile.TarInfo(f"{number:08}.{suffix}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))


def write_tables(root: Path, n: int) -> None:
    """Parquet files; of a row without metadata, the seed is spoilt."""
    some = samples(n)
    for start in range(0, n, A_SHARD):
        rows = list(islice(some, A_SHARD))
        said = [json.loads(row) if row != "{" else {"seed": -1} for _, row in rows]
        columns = {name: [one.get(name) for one in said] for name in ("creator", "licence", "seed")}
        table = pa.table({"image": [picture for picture, _ in rows], **columns})
        pq.write_table(table, root / f"{start:08}.parquet", row_group_size=ROW_GROUP)


def write_folder(root: Path, n: int) -> None:
    """Files with a ``metadata.jsonl``."""
    with (root / "metadata.jsonl").open("w") as lines:
        for number, (picture, row) in enumerate(samples(n)):
            (root / f"{number:08}.jpg").write_bytes(picture)
            named = row if row == "{" else json.dumps({"file_name": f"{number:08}.jpg"})[:-1]
            lines.write(named + ("\n" if row == "{" else ", " + row[1:] + "\n"))


WRITERS = {"tar": write_tars, "Parquet": write_tables, "folder": write_folder}


def register(root: Path, home: Path) -> dict[str, Any]:
    """Register a directory; the figures of this process."""
    from app.config import Settings
    from app.database.engine import Database
    from app.database.migrate import upgrade
    from app.database.tables import DEFAULT_TENANT
    from app.datasets import registration
    from app.datasets.schemas import DatasetIn

    settings = Settings(home=home, dataset_roots=[root])
    database = Database(settings.database_url)
    upgrade(database)
    before = peak_memory()
    started = time.monotonic()
    wanted = DatasetIn(name="benchmark", path=str(root), skip_invalid=True)
    steps = registration.registering(database.of_tenant(DEFAULT_TENANT), settings, wanted)
    registered = registration.finish(steps)
    took = time.monotonic() - started
    return {
        "seconds": took,
        "images": registered.dataset.sample_count,
        "refused": registered.dataset.refused_count,
        "mb": peak_memory() - before,
    }


def peak_memory() -> float:
    """Of this process alone, in MB: what getrusage says begins with its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def bare(n: int) -> float:
    """Seconds an image to hash and decode the same pictures in one thread."""
    pictures = photographs()
    started = time.monotonic()
    for number in range(n):
        content = pictures[number % KINDS]
        hashlib.sha256(content).hexdigest()
        with Image.open(io.BytesIO(content)) as image:
            image.load()
    return (time.monotonic() - started) / n


def measure(report: Report, form: str, n: int) -> float:
    """One registration in a process of its own; its peak memory above the start's, in MB."""
    with tempfile.TemporaryDirectory() as temporary:
        root, home = Path(temporary) / "data", Path(temporary) / "home"
        root.mkdir()
        home.mkdir()
        WRITERS[form](root, n)
        reference = bare(2000)
        command = [sys.executable, __file__, "--registered", str(root), "--home", str(home)]
        finished = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(finished.stdout.splitlines()[-1])
    case = f"{n:,} images, {form}"
    ratio = found["seconds"] / n / reference
    report.add(
        case,
        "time of decoding them in one thread",
        ratio,
        "≤ 1.5",
        ratio <= 1.5,
        images_per_second=round(n / found["seconds"]),
        seconds=round(found["seconds"], 1),
    )
    spoilt = sum(1 for number in range(n) if number % 300 in SPOILT)
    report.add(case, "spoilt images refused", found["refused"] / spoilt, "1", True)
    assert found["refused"] == spoilt, (found, spoilt)
    assert found["images"] == n - spoilt
    return float(found["mb"])


def main() -> None:
    """Measure all forms at a tenth of the images, and the tar at all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--registered", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.registered:
        print(json.dumps(register(asked.registered, asked.home)))
        return
    report = Report("registration", asked.out)
    few = asked.images // 10
    for form in WRITERS:
        measure(report, form, few)
    small, large = (measure(report, "tar", n) for n in (few, asked.images))
    grown = (large - small) * 1024 / (asked.images - few)
    report.add("each further image, tar", "kB of memory", grown, "≤ 3", grown <= 3)
    report.end()


if __name__ == "__main__":
    main()
