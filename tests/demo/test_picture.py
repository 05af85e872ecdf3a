"""What the answer's picture lights up, and that it can be drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from demo.picture import draw_answer, lit


def test_the_part_with_the_largest_share_keeps_its_colour() -> None:
    red = Image.new("RGB", (4, 4), (255, 0, 0))
    shown = lit(red, [0.1, 0.4, 0.0, 0.2])
    np.testing.assert_allclose(shown[:2, 2:], np.broadcast_to([1.0, 0.0, 0.0], (2, 2, 3)))
    faded = shown[2:, :2]
    assert np.ptp(faded) < 1e-9, "a part without a share is grey"
    np.testing.assert_allclose(lit(red, None)[0, 0], [1, 0, 0])


def test_an_answer_is_drawn(tmp_path: Path) -> None:
    contributor: dict[str, Any] = {
        "rank": 1, "key": "a.png", "text": None, "creator": None, "licence": None, "effect": -0.5,
        "std_error": None, "share": 1.0, "clip_similarity": 0.9, "regions": [1.0, 0.0, 0.0, 0.0],
    }  # fmt: skip
    answer = {
        "contributors": [contributor],
        "by_creator": [{"creator": "unknown", "share": 1.0}],
        "candidates": {"considered": 1},
        "rests_on": {"method": "das", "timesteps": 10},
        "statement": "Influence estimate, not proof of copying",
    }
    picture = Image.new("RGB", (16, 16), "navy")
    draw_answer(picture, answer, lambda key: picture, "a prompt", tmp_path / "answer.png")
    assert Image.open(tmp_path / "answer.png").size[0] > 1000
