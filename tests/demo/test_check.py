"""What counts as a right answer."""

from __future__ import annotations

import numpy as np

from attribution.image_data.sample import Sample
from demo.check import Tally


def test_style_and_drawing_are_counted_among_the_top() -> None:
    keys = [f"twemoji/{i}.png" for i in range(60)] + [f"openmoji/{i}.png" for i in range(60)]
    scores = np.zeros(120)
    scores[:25], scores[60:85] = 3.0, 1.0
    scores[60 + 33] = 9.0
    tally = Tally([], [], [], [])
    tally.add(Sample("twemoji/33.png"), keys, scores)
    figures = tally.figures()
    assert figures["style_share_of_top_50_influence"] == 75 / (75 + 9 + 24)
    assert figures["style_part_of_top_50_images"] == 0.5
    assert figures["same_emoji_in_top_10"] == 1.0
    assert figures["same_drawing_in_top_10"] == 0.0
