"""The measured loss is Eq. 3, and every model is asked the same questions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from attribution.denoisers import Denoiser
from attribution.evaluation import losses as losses_module
from attribution.evaluation.losses import simple_losses
from attribution.families import Condition
from attribution.image_set import ImageSet
from attribution.noise import sample_noise


@torch.no_grad()
def test_is_the_simple_loss_written_out(tiny_ddpm: Path, tiny_folder: Path) -> None:
    denoiser, folder = Denoiser.load(tiny_ddpm), ImageSet(tiny_folder)
    measured = simple_losses(denoiser, folder, timesteps=4, draws=2)
    i = 5
    x_0, key = denoiser.encode(folder.image(i)), folder.samples[i].key
    terms = []
    for t in (0, 250, 500, 750):
        for draw in range(2):
            noise = sample_noise([key], t, denoiser.shape, 0, draw)
            at = torch.tensor([t])
            predicted = denoiser.predict(denoiser.add_noise(x_0[None], noise, at), at, Condition())
            terms.append(float(((predicted - noise) ** 2).mean()))
    assert measured[i] == pytest.approx(np.mean(terms), rel=1e-5)


def test_batches_change_nothing(
    tiny_model: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    denoiser, folder = Denoiser.load(tiny_model), ImageSet(tiny_folder)
    whole = simple_losses(denoiser, folder, timesteps=2)
    monkeypatch.setattr(losses_module, "ROWS_AT_ONCE", 5)
    parts = simple_losses(denoiser, folder, timesteps=2)
    np.testing.assert_allclose(parts, whole, rtol=1e-5)
    assert len(set(whole.tolist())) == 12
