"""Which frame goes on from the one before it."""

from __future__ import annotations

import numpy as np

from talkingface.lipsync.continuity import Continuity

DARK, LIGHT = (np.full((40, 40, 3), level, np.uint8) for level in (20, 200))


def follow(pictures, shown, faces=None, sizes=None) -> list[bool]:
    """For frames fed in batches of `sizes`; `faces` lists the frames that have one."""
    continuity, found, start = Continuity(), [], 0
    for size in sizes or [len(shown)]:
        part = slice(start, start + size)
        numbers = range(start, min(start + size, len(shown)))
        some = [k - start for k in numbers if faces is None or k in faces]
        found += continuity.follow(pictures[part], np.array(shown[part]), np.array(some, int)).tolist()
        start += size
    return found


def test_neighbours_follow_forwards_backwards_and_standing_still():
    assert follow([DARK] * 6, [0, 1, 2, 2, 1, 0]) == [False, True, True, True, True, True]
    assert follow([DARK] * 4, [0, 1, 5, 6]) == [False, True, False, True]


def test_a_cut_and_a_frame_without_a_face_begin_anew():
    assert follow([DARK, DARK, LIGHT, LIGHT], [0, 1, 2, 3]) == [False, True, False, True]
    assert follow([DARK] * 5, list(range(5)), faces={0, 1, 3, 4}) == [False, True, False, True]


def test_batches_make_no_difference():
    pictures, shown = [DARK, DARK, LIGHT, LIGHT, DARK, DARK, DARK], [0, 1, 2, 3, 4, 5, 4]
    whole = follow(pictures, shown)
    for sizes in ([1] * 7, [3, 4], [2, 2, 3]):
        assert follow(pictures, shown, sizes=sizes) == whole
