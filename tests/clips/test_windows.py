"""Windows of consecutive frames with a face."""

from __future__ import annotations

import numpy as np

from talkingface.clips.windows import window_starts


def test_windows_avoid_frames_without_a_face():
    valid = np.ones(20, bool)
    valid[9] = False
    assert window_starts(valid, 5).tolist() == [0, 1, 2, 3, 4, *range(10, 16)]
    assert window_starts(valid, 1).tolist() == [k for k in range(20) if k != 9]
    assert not len(window_starts(valid[:4], 5))


def test_both_ends_of_a_clip_may_be_left_out():
    assert window_starts(np.ones(50, bool), 5)[[0, -1]].tolist() == [0, 45]
    assert window_starts(np.ones(50, bool), 5, context=2)[[0, -1]].tolist() == [2, 43]
    assert not len(window_starts(np.ones(8, bool), 5, context=2))
