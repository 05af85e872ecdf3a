"""Drawing pictures of texts: each from its own seed and prompt, with guidance or without."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from attribution.denoisers import Denoiser, Drawing


@pytest.fixture(scope="module")
def denoiser(tiny_model: Path) -> Denoiser:
    return Denoiser.load(tiny_model)


def drawn(denoiser: Denoiser, prompts: list[str], seeds: list[int], scale: float) -> torch.Tensor:
    *_, last = denoiser.drawn_together(prompts, seeds, Drawing(0, 3, scale))
    return last.sample


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_a_picture_does_not_depend_on_its_neighbours(denoiser: Denoiser, scale: float) -> None:
    prompts, seeds = ["disc, ada", "ring, bob"], [3, 4]
    both = drawn(denoiser, prompts, seeds, scale)
    for row, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
        alone = drawn(denoiser, [prompt], [seed], scale)
        torch.testing.assert_close(both[row], alone[0], rtol=1e-3, atol=1e-3)
    assert (both[0] - both[1]).abs().max() > 0.1


def test_guidance_moves_away_from_the_negative_prompt(denoiser: Denoiser) -> None:
    """ε = ε_negative + scale · (ε_prompt - ε_negative), at the first step."""
    drawing = Drawing(0, 2, 3.0, "ring, bob")
    (step, *rest) = denoiser.drawn_together(["disc, ada"], [5], drawing)
    noise = torch.randn((3, 16, 16), generator=torch.Generator().manual_seed(5))[None]
    pipeline = denoiser.pipeline

    def predicted(prompt: str) -> torch.Tensor:
        states, pooled = pipeline.encode_prompt([prompt])
        with torch.no_grad():
            return pipeline.unet(noise, step.timestep, states, class_labels=pooled).sample

    negative = predicted("ring, bob")
    e = negative + 3.0 * (predicted("disc, ada") - negative)
    bar = pipeline.scheduler.alphas_cumprod[step.timestep]
    expected = ((noise - (1 - bar).sqrt() * e) / bar.sqrt()).clamp(-1, 1)
    torch.testing.assert_close(step.predicted_x_0, expected, rtol=1e-4, atol=1e-4)
    assert len(rest) == 1


def test_every_prompt_needs_a_seed(denoiser: Denoiser) -> None:
    with pytest.raises(ValueError, match="2 prompts but 1 seeds"):
        list(denoiser.drawn_together(["disc", "ring"], [1], Drawing(0)))
