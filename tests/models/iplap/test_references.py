from __future__ import annotations

import numpy as np
import pytest

from talkingface.models.iplap.references import mouth_openness, select_references


def test_equal_openness_keeps_the_order_of_the_frames():
    assert select_references(np.array([2.0, 1.0, 2.0, 1.0]), 4).tolist() == [1, 3, 0, 2]


def test_only_candidates_serve_and_short_clips_repeat():
    openness = np.array([5.0, 1.0, 3.0, 4.0])
    chosen = select_references(openness, 5, candidates=np.array([0, 2]))
    assert set(chosen.tolist()) == {0, 2}
    assert chosen[0] == 2 and chosen[-1] == 0
    assert select_references(np.array([1.0]), 3).tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="no frame"):
        select_references(openness, 3, candidates=np.array([], dtype=int))


def test_openness_is_relative_to_the_frame():
    points = np.zeros((1, 478, 2))
    points[0, 17] = (30, 40)
    assert mouth_openness(points, (400, 300))[0] == pytest.approx(np.hypot(0.1, 0.1))
