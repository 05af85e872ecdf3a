"""CLIP embeddings of images and texts, by open_clip.

They serve three ends: the prefilter that the paper calls candidate reduction (Section 3.3), the
``clip`` baseline (Appendix F.3), and the similarity shown beside every effect.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError

from attribution.errors import InputError
from attribution.index.manifest import file_digest, weights_digest

Item = TypeVar("Item")


class EmbedderError(InputError):
    """The CLIP model cannot be used; the message says why."""


class ClipEmbedder:
    """An open_clip model; its embeddings are float32 rows ``(n, d)`` of unit length."""

    def __init__(self, name: str, device: torch.device | str = "cpu", batch_size: int = 64) -> None:
        """Load ``name``: a directory in open_clip's own layout, or one of open_clip's schemas."""
        import open_clip

        local = Path(name).is_dir()
        if local and not (Path(name) / "open_clip_config.json").is_file():
            raise EmbedderError(f"{name} has no open_clip_config.json")
        if not local and ":" not in name:  # a bare architecture would have random weights
            raise EmbedderError(f"{name} is no directory in open_clip's layout")
        identifier = f"local-dir:{name}" if local else name
        self.digest = weights_digest(Path(name), "*.safetensors") if local else name
        config = Path(name) / "open_clip_config.json"
        self.settings_digest = file_digest(config) if local else ""
        try:
            model, _, preprocess = open_clip.create_model_and_transforms(identifier, device=device)
        except (OSError, RuntimeError, ValueError, SafetensorError) as error:
            raise EmbedderError(f"{name} cannot be loaded: {error}") from error
        self.model: Any = model.eval()
        self.dimension: int = model.visual.output_dim
        self.preprocess: Any = preprocess
        self.tokenizer: Any = open_clip.get_tokenizer(identifier)
        self.device = torch.device(device)
        self.batch_size = batch_size

    @torch.no_grad()
    def embed_images(
        self, images: Iterable[Image.Image], *, normalize: bool = True
    ) -> NDArray[np.float32]:
        """Embed PIL images, streamed in batches: ``(n, d)``, of unit length if ``normalize``."""
        rows = [
            self.model.encode_image(
                torch.stack([self.preprocess(image) for image in batch]).to(self.device),
                normalize=normalize,
            )
            for batch in _batches(images, self.batch_size)
        ]
        return _stacked(rows)

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed prompts or captions: ``(n, d)``."""
        rows = [
            self.model.encode_text(self.tokenizer(batch).to(self.device), normalize=True)
            for batch in _batches(texts, self.batch_size)
        ]
        return _stacked(rows)


def _stacked(rows: list[torch.Tensor]) -> NDArray[np.float32]:
    embeddings: NDArray[np.float32] = torch.cat(rows).float().cpu().numpy()
    return np.ascontiguousarray(embeddings)


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    return iter(lambda: list(islice(iterator, size)), [])
