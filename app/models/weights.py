"""Looking at a model's directory without loading it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from app.problems import ProblemError

PIPELINE_CLASSES = ("DDPMPipeline", "PixelTextToImagePipeline")
UNCONDITIONAL = ("DDPMPipeline",)
PICKLED = frozenset({".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle"})
PIPELINE_WEIGHTS = "*/*.safetensors"
CLIP_WEIGHTS = "*.safetensors"


def pipeline_class(directory: Path) -> str:
    """The supported class that ``model_index.json`` names; else a problem."""
    try:
        index = json.loads((directory / "model_index.json").read_text(encoding="utf-8"))
        name = index["_class_name"]
    except (OSError, ValueError, KeyError, TypeError):
        raise unusable(f"{directory} has no model_index.json that names a pipeline") from None
    if name not in PIPELINE_CLASSES:
        raise unusable(f"{name} is not supported ({', '.join(PIPELINE_CLASSES)})")
    return str(name)


def weights_digest(directory: Path, pattern: str) -> str:
    """SHA-256 over the names and digests of the weight files, as an index's manifest has it.

    A directory without safetensors, or with pickled weights, is a problem: unpickling runs code.
    """
    pickled = [file for file in sorted(directory.rglob("*")) if file.suffix.lower() in PICKLED]
    if pickled:
        raise unusable(f"{pickled[0].relative_to(directory)}: only safetensors are accepted")
    files = sorted(directory.glob(pattern))
    if not files:
        raise unusable(f"{directory} has no {pattern}")
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as content:
            file_digest = hashlib.file_digest(content, "sha256").hexdigest()
        digest.update(f"{file.relative_to(directory).as_posix()}\0{file_digest}\n".encode())
    return digest.hexdigest()


def unusable(detail: str) -> ProblemError:
    """The problem of a directory that holds no usable model."""
    return ProblemError(422, "model-unusable", "The directory cannot be used as a model", detail)
