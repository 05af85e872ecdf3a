"""D-TRAK through a built index, against φᵀK⁻¹φ in float64 NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from attribution.attributor import Attributor, query_key
from attribution.denoisers import Denoiser
from attribution.embeddings import ClipEmbedder
from attribution.image_folder import ImageFolder
from attribution.index.build import IndexBuilder
from attribution.index.config import IndexConfig
from attribution.index.search import Index


def test_scores_have_no_leverage_and_no_residual(
    tmp_path: Path, tiny_model: Path, tiny_clip: Path, tiny_folder: Path
) -> None:
    config = IndexConfig(output="square", timesteps=2, projection_dim=300, store="float32")
    folder, denoiser = ImageFolder(tiny_folder), Denoiser.load(tiny_model)
    clip = ClipEmbedder(str(tiny_clip))
    builder = IndexBuilder(tmp_path, denoiser, folder, config, shard_size=12)
    builder.extract(0)
    builder.finalise(clip)
    picture = Image.open(tiny_folder / "bob/ring.png").rotate(90)
    found = Attributor(Index(tmp_path), denoiser, clip).attribute(picture, method="d-trak")

    train = builder.extractor.extract(
        [sample.key for sample in folder.samples],
        torch.stack([denoiser.encode(folder.image(i)) for i in range(len(folder))]),
        denoiser.condition([sample.text for sample in folder.samples]),
    )
    query = builder.extractor.extract(
        [query_key(picture)], denoiser.encode(picture)[None], denoiser.condition([None])
    )
    phi, gen = train.gradients[:, 0].astype(np.float64), query.gradients[0, 0]
    gram = phi @ phi.T  # the dual form of φᵀ(ΦᵀΦ + λI)⁻¹φ
    lam = config.damping * np.trace(gram) / phi.shape[1]
    expected = np.linalg.solve(gram + lam * np.eye(len(phi)), phi) @ gen
    np.testing.assert_allclose(
        found.scores, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max()
    )
    assert (found.scores < 0).any()
