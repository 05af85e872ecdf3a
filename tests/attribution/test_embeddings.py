"""CLIP embeddings: of unit length, each its own, from a model that is really there."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attribution.embeddings import ClipEmbedder, EmbedderError
from attribution.image_set import ImageSet


@pytest.fixture(scope="module")
def clip(tiny_clip: Path) -> ClipEmbedder:
    return ClipEmbedder(str(tiny_clip), batch_size=5)


@pytest.fixture(scope="module")
def images(tiny_folder: Path) -> list[Image.Image]:
    folder = ImageSet(tiny_folder)
    return [folder.image(i) for i in range(len(folder))]


def test_embeddings_do_not_depend_on_the_batch(
    clip: ClipEmbedder, images: list[Image.Image]
) -> None:
    together = clip.embed_images(images)
    assert (together.dtype, together.shape) == (np.float32, (12, clip.dimension))
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, rtol=1e-5)
    for row in (0, 4, 11):
        np.testing.assert_allclose(clip.embed_images([images[row]])[0], together[row], atol=1e-5)
    captions = ["disc, ada", "ring, bob", "disc, ada"]
    texts = clip.embed_texts(captions)
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(texts[0], texts[2], atol=1e-6)
    assert np.abs(texts[0] - texts[1]).max() > 1e-3


def test_lengths_may_be_kept(clip: ClipEmbedder, images: list[Image.Image]) -> None:
    raw = clip.embed_images(images, normalize=False)
    lengths = np.linalg.norm(raw, axis=1, keepdims=True)
    assert np.abs(lengths - 1).min() > 0.1
    np.testing.assert_allclose(raw / lengths, clip.embed_images(images), atol=1e-5)


def test_what_is_no_model_is_refused(tmp_path: Path, tiny_clip: Path) -> None:
    with pytest.raises(EmbedderError, match=r"has no open_clip_config\.json"):
        ClipEmbedder(str(tmp_path))
    with pytest.raises(EmbedderError, match="no directory in open_clip's layout"):
        ClipEmbedder("ViT-B-32")  # an architecture: its weights would be random
    shutil.copytree(tiny_clip, tmp_path / "clip")
    (tmp_path / "clip" / "open_clip_model.safetensors").write_bytes(b"nothing")
    with pytest.raises(EmbedderError, match="cannot be loaded"):
        ClipEmbedder(str(tmp_path / "clip"))
