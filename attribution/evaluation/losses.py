"""The measured output of a retrained model: the simple loss of each query (Eq. 3, Eq. 20's f)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from attribution.denoisers import Denoiser
from attribution.image_set import ImageSet
from attribution.noise import sample_noise, select_timesteps

ROWS_AT_ONCE = 200


@torch.no_grad()
def simple_losses(
    denoiser: Denoiser, folder: ImageSet, *, timesteps: int, draws: int = 1, seed: int = 0
) -> NDArray[np.float32]:
    """E_{t,ε} mean((ε_θ - ε)²) of every image, ``(Q,)``, over evenly spaced timesteps.

    Noise belongs to the image and the timestep: every model is asked the very same questions, so
    that the differences between models hold no noise of the measurement.
    """
    chosen = select_timesteps(timesteps, "uniform", denoiser.noise_levels)
    losses = np.empty(len(folder), dtype=np.float32)
    for start in range(0, len(folder), ROWS_AT_ONCE):
        rows = range(start, min(start + ROWS_AT_ONCE, len(folder)))
        keys = [folder.samples[i].key for i in rows]
        condition = denoiser.condition([folder.samples[i].text for i in rows])
        x_0 = torch.stack([denoiser.encode(folder.image(i)) for i in rows]).to(denoiser.device)
        total = torch.zeros(len(rows), dtype=torch.float64)
        for t in chosen:
            at = torch.full((len(rows),), t, device=denoiser.device)
            for draw in range(draws):
                noise = sample_noise(keys, t, denoiser.shape, seed, draw).to(denoiser.device)
                predicted = denoiser.predict(denoiser.add_noise(x_0, noise, at), at, condition)
                residual = predicted - denoiser.target(x_0, noise, at)
                total += (residual**2).flatten(1).mean(dim=1).double().cpu()
        losses[start : rows.stop] = (total / (len(chosen) * draws)).numpy()
    return losses
