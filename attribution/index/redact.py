"""A version without some images: their rows leave every file, the others' scores stay.

The kernel stays too: a sum over all images, in which none can be told from the others.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Collection
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from uuid import uuid4

import faiss
import numpy as np
import torch
from safetensors.torch import load_file, save

from attribution.index.build import CLIP, DIRECTIONS, FACTS, KERNELS, SAMPLES
from attribution.index.manifest import Manifest, atomic_file, file_digest, write_atomically


class NothingLeftError(ValueError):
    """All images of a version were to go."""


def redact(source: Path, target: Path, keys: Collection[str]) -> Manifest | None:
    """Write ``source`` without ``keys`` to ``target``; None where it holds none of them.

    The target is there whole or not at all, so that two may write the same one at once: the
    second finds the first one's, and keeps it.
    """
    manifest = Manifest.read(source)
    names: list[str] = json.loads((source / SAMPLES).read_text(encoding="utf-8"))
    kept = [row for row, key in enumerate(names) if key not in keys]
    if len(kept) == len(names):
        return None
    if not kept:
        raise NothingLeftError(f"{source} holds nothing else")
    draft = target.with_name(f".{target.name}.{uuid4().hex}")
    draft.mkdir(parents=True)
    try:
        _write(source, draft, manifest, names, kept)
        draft.rename(target)
    except OSError:
        if not target.is_dir():
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return Manifest.read(target)


def _write(
    source: Path, target: Path, manifest: Manifest, names: list[str], kept: list[int]
) -> None:
    _copy_rows(source / DIRECTIONS, target / DIRECTIONS, len(names), kept)
    rows = torch.tensor(kept, dtype=torch.long)
    facts = {name: fact[rows] for name, fact in load_file(source / FACTS).items()}
    write_atomically(target / FACTS, save(facts))
    write_atomically(target / SAMPLES, json.dumps([names[row] for row in kept]).encode())
    if KERNELS in manifest.files:
        with (source / KERNELS).open("rb") as old, atomic_file(target / KERNELS) as new:
            shutil.copyfileobj(old, new)
    if CLIP in manifest.files:
        old_clip = faiss.read_index(str(source / CLIP))
        new_clip = faiss.IndexFlatIP(old_clip.d)
        new_clip.add(old_clip.reconstruct_batch(np.array(kept, dtype=np.int64)))
        write_atomically(target / CLIP, faiss.serialize_index(new_clip).tobytes())
    removed = sorted(set(names) - {names[row] for row in kept})
    smaller = replace(
        manifest,
        identity=hashlib.sha256(json.dumps([manifest.identity, removed]).encode()).hexdigest(),
        samples=len(kept),
        files={name: file_digest(target / name) for name in manifest.files},
    )
    smaller.write(target)


def _copy_rows(source: Path, target: Path, count: int, kept: list[int]) -> None:
    """The kept rows of a file of equal rows, a run of neighbours at a time."""
    size = source.stat().st_size // count
    with source.open("rb") as old, atomic_file(target) as new:
        for _, run in groupby(enumerate(kept), lambda place: place[1] - place[0]):
            rows = [row for _, row in run]
            old.seek(rows[0] * size)
            for _ in rows:
                new.write(old.read(size))
