"""Folders that the API tests register."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Places:
    """Folders to register: real in layout; the weights are never loaded by the API."""

    dataset: Path
    model: Path
    clip: Path


def write_model(directory: Path) -> None:
    """A text-conditional pixel model, but for its weights."""
    parts = ("unet", "text_encoder", "tokenizer", "scheduler")
    index = {"_class_name": "PixelTextToImagePipeline"} | {part: ["", "Any"] for part in parts}
    configs = {
        "unet": {"sample_size": 8, "in_channels": 3, "cross_attention_dim": 4},
        "text_encoder": {"hidden_size": 4},
    }
    for part in parts:
        (directory / part).mkdir(parents=True, exist_ok=True)
        (directory / part / "config.json").write_text(json.dumps(configs.get(part, {})))
    (directory / "model_index.json").write_text(json.dumps(index))
    (directory / "unet" / "model.safetensors").write_bytes(b"unet")
