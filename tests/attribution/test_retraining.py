"""Reference test 8: what DAS predicts is what happens when images are left out and the model is
trained again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from scipy.stats import spearmanr
from shared_kernel import products_with

from attribution.denoisers import Denoiser
from attribution.families import Condition
from attribution.features import Batch, GradientFeatures
from attribution.index.config import IndexConfig

KINDS, EACH, SIZE, STEPS = 6, 10, 8, 100


def pictures(each: int, seed: int) -> torch.Tensor:
    """Six kinds of 8 × 8 pictures, ``each`` of a kind, differing in brightness and noise."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    middle = (SIZE - 1) / 2
    disc = (x - middle) ** 2 + (y - middle) ** 2
    kinds = torch.stack(
        [
            x < 4,
            y < 4,
            x == y,
            disc < 6,
            x % 4 < 2,
            (x + y) % 4 < 2,
        ]
    )
    clean = kinds.float().repeat_interleave(each, dim=0)[:, None] * 2 - 1
    bright = 0.6 + 0.4 * torch.rand((len(clean), 1, 1, 1), generator=generator)
    noise = torch.randn(clean.shape, generator=generator)
    return (bright * clean + 0.1 * noise).clamp(-1, 1)


def train(images: torch.Tensor, kept: torch.Tensor) -> Denoiser:
    """Full-batch training; leaving images out changes nothing else, not even the noise."""
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=SIZE,
        in_channels=1,
        out_channels=1,
        block_out_channels=(16, 16),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
    )
    denoiser = Denoiser(DDPMPipeline(unet, DDPMScheduler(beta_schedule="squaredcos_cap_v2")))
    optimizer = torch.optim.Adam(unet.parameters(), lr=2e-3)
    for step in range(STEPS):
        loss = losses(denoiser, images, seed=step)[kept].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return denoiser


def losses(denoiser: Denoiser, images: torch.Tensor, seed: int) -> torch.Tensor:
    """The simple loss of each image at timesteps and noise that the seed alone decides."""
    generator = torch.Generator().manual_seed(seed)
    t = torch.randint(1000, (len(images),), generator=generator)
    noise = torch.randn(images.shape, generator=generator)
    predicted = denoiser.predict(denoiser.add_noise(images, noise, t), t, Condition())
    return ((predicted - noise) ** 2).mean(dim=(1, 2, 3))


@torch.no_grad()
def mean_losses(denoiser: Denoiser, images: torch.Tensor) -> np.ndarray:
    draws = [losses(denoiser, images, seed=10_000 + i) for i in range(40)]
    return torch.stack(draws).mean(dim=0).numpy()


@pytest.mark.timeout(600)
def test_signed_effects_follow_leave_ten_out_retraining() -> None:
    images, queries = pictures(EACH, seed=0), pictures(2, seed=1)
    everything = torch.ones(len(images), dtype=torch.bool)
    denoiser = train(images, everything)
    before = mean_losses(denoiser, queries)
    changes = []
    for kind in range(KINDS):
        kept = everything.clone()
        kept[kind * EACH : (kind + 1) * EACH] = False
        changes.append(mean_losses(train(images, kept), queries) - before)

    extractor = GradientFeatures(denoiser, IndexConfig(projection_dim=1500))

    def features(kind: str, x_0: torch.Tensor) -> np.ndarray:
        n = len(x_0)
        batch = Batch([f"{kind}/{i}" for i in range(n)], [], [None] * n, [None] * n)
        path = [(t, x_0) for t in extractor.timesteps]
        return extractor.along(batch, path).gradients[:, 0].double().numpy()

    phi, asked = features("train", images), features("query", queries)
    products, leverages = products_with(phi, asked, 0.03)
    correlations = []
    for product, actual in zip(products, np.stack(changes, axis=1), strict=True):
        signed = (product / (1 - leverages)).sum(axis=1)
        predicted = signed.reshape(KINDS, EACH).sum(axis=1)
        correlations.append(spearmanr(predicted, actual).statistic)
    print("mean Spearman over queries", np.mean(correlations))
    assert np.mean(correlations) > 0.25
