"""Drawing pictures of texts: each from its own seed and prompt, with guidance or without."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from attribution.pipelines import PixelTextToImagePipeline


@pytest.fixture(scope="module")
def pipeline(tiny_model: Path) -> PixelTextToImagePipeline:
    loaded = PixelTextToImagePipeline.from_pretrained(tiny_model)
    loaded.set_progress_bar_config(disable=True)
    return loaded


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_a_picture_does_not_depend_on_its_neighbours(
    pipeline: PixelTextToImagePipeline, scale: float
) -> None:
    prompts, seeds = ["disc, ada", "ring, bob"], [3, 4]
    both = pipeline(prompts, seeds, num_inference_steps=3, guidance_scale=scale)
    for row, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
        alone = pipeline([prompt], [seed], num_inference_steps=3, guidance_scale=scale)
        torch.testing.assert_close(both[row], alone[0], rtol=1e-3, atol=1e-4)
        assert alone.abs().max() <= 1
    assert (both[0] - both[1]).abs().max() > 0.1


def test_guidance_moves_away_from_the_negative_prompt(pipeline: PixelTextToImagePipeline) -> None:
    """ε = ε_negative + scale · (ε_prompt - ε_negative), at the first step."""
    (step, *rest) = pipeline.steps(["disc, ada"], [5], "ring, bob", 2, 3.0)
    noise = torch.randn((3, 16, 16), generator=torch.Generator().manual_seed(5))[None]

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


def test_every_prompt_needs_a_seed(pipeline: PixelTextToImagePipeline) -> None:
    with pytest.raises(ValueError, match="2 prompts but 1 seeds"):
        pipeline(["disc", "ring"], [1])
