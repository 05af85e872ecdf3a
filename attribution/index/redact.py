"""A version without some images: their rows leave every file, the others' scores stay.

The kernel stays too: a sum over all images, in which none can be told from the others.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np
import torch
from safetensors.torch import load_file, save

from attribution.index.build import CLIP, DIRECTIONS, FACTS, KERNELS, SAMPLES
from attribution.index.manifest import Manifest, atomic_file, file_digest, write_atomically


def redact(source: Path, target: Path, keys: Collection[str]) -> Manifest | None:
    """Write ``source`` without ``keys`` to ``target``; None where it holds none of them.

    The manifest comes last: a target without one was interrupted, and is written anew.
    """
    manifest = Manifest.read(source)
    names: list[str] = json.loads((source / SAMPLES).read_text(encoding="utf-8"))
    kept = [row for row, key in enumerate(names) if key not in keys]
    if len(kept) == len(names):
        return None
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    _copy_rows(source / DIRECTIONS, target / DIRECTIONS, len(names), kept)
    rows = torch.tensor(kept, dtype=torch.long)
    facts = {name: fact[rows] for name, fact in load_file(source / FACTS).items()}
    write_atomically(target / FACTS, save(facts))
    write_atomically(target / SAMPLES, json.dumps([names[row] for row in kept]).encode())
    if KERNELS in manifest.files:
        shutil.copyfile(source / KERNELS, target / KERNELS)
    if CLIP in manifest.files:
        old = faiss.read_index(str(source / CLIP))
        new = faiss.IndexFlatIP(old.d)
        new.add(old.reconstruct_batch(np.array(kept, dtype=np.int64)))
        write_atomically(target / CLIP, faiss.serialize_index(new).tobytes())
    removed = hashlib.sha256(json.dumps([manifest.identity, sorted(keys)]).encode())
    smaller = replace(
        manifest,
        identity=removed.hexdigest(),
        samples=len(kept),
        files={name: file_digest(target / name) for name in manifest.files},
    )
    smaller.write(target)
    return smaller


def _copy_rows(source: Path, target: Path, count: int, kept: list[int]) -> None:
    """The kept rows of a file of equal rows, some at a time."""
    size = source.stat().st_size // count
    with source.open("rb") as old, atomic_file(target) as new:
        for row in kept:
            old.seek(row * size)
            new.write(old.read(size))
