"""Edges of a face that is pasted as a whole box."""

from __future__ import annotations

import numpy as np

from talkingface.faces.blend import blend_mask


def test_hard_edges_are_the_published_paste():
    assert blend_mask(np.array([10, 20, 50, 80]), (100, 100), "box", 0.0) is None
    lower = blend_mask(np.array([10, 20, 50, 80]), (100, 100), "lower", 0.0)
    assert lower.min() == 0 and lower[50:80, 10:50].min() == 255 and lower.sum() == 255 * 30 * 40


def test_soft_edges_rise_inside_the_box_and_the_seam_lies_above_the_middle():
    mask = blend_mask(np.array([10, 20, 50, 80]), (100, 100), "lower", 0.1)
    column, row = mask[:, 30].astype(int), mask[70].astype(int)
    assert (column[50:75] == 255).all() and column[44] == 0 and 0 < column[46] < column[48] < 255
    assert 255 > column[76] > column[79] > 0 == column[80]
    assert 0 == row[9] < row[10] < row[13] < row[16] == 255
    edge = blend_mask(np.array([0, 20, 50, 100]), (100, 100), "box", 0.1)
    assert edge[60, 0] == 255 and edge[99, 25] == 255 and edge[20, 25] < 100  # no edge where the picture ends
