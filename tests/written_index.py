"""An index version of random rows, written as a build writes it: what needs files, but no model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import faiss
import torch
from safetensors.torch import save_file

from attribution.index.build import CLIP, DIRECTIONS, FACTS, KERNELS, SAMPLES
from attribution.index.config import IndexConfig
from attribution.index.manifest import Manifest, file_digest

GROUPS, OUTPUTS, DIMENSION = 1, 4, 8


def write_index(directory: Path, keys: Sequence[str]) -> Manifest:
    """A version over these images; each row differs from every other."""
    directory.mkdir(parents=True)
    random = torch.Generator().manual_seed(len(keys))
    rows, shape = len(keys), (len(keys), GROUPS, OUTPUTS)
    config = IndexConfig(store="float16", probes=OUTPUTS)
    directions = torch.randn(rows, GROUPS * OUTPUTS, DIMENSION, generator=random).half()
    (directory / DIRECTIONS).write_bytes(directions.numpy().tobytes())
    facts = {
        name: torch.rand(shape, generator=random)
        for name in ("scales", "lengths", "leverages", "solved_lengths", "probed_residuals")
    }
    facts["residuals"] = torch.rand(rows, GROUPS, generator=random)
    save_file(facts, directory / FACTS)
    vectors, values = torch.linalg.qr(torch.randn(DIMENSION, DIMENSION, generator=random))
    save_file(
        {"vectors/0": vectors.contiguous(), "values/0": values.diag().abs().double().contiguous()},
        directory / KERNELS,
    )
    clip = faiss.IndexFlatIP(DIMENSION)
    clip.add(torch.randn(rows, DIMENSION, generator=random).numpy())
    faiss.write_index(clip, str(directory / CLIP))
    (directory / SAMPLES).write_text(json.dumps(list(keys)))
    names = (DIRECTIONS, FACTS, KERNELS, CLIP, SAMPLES)
    manifest = Manifest(
        config=config,
        identity="built",
        model_digest="model",
        clip_digest="clip",
        samples=rows,
        groups=GROUPS,
        outputs=OUTPUTS,
        dimension=DIMENSION,
        dampings=[0.5],
        degrees_of_freedom=[2.0],
        files={name: file_digest(directory / name) for name in names},
    )
    manifest.write(directory)
    return manifest
