from __future__ import annotations

import numpy as np
import pytest

from talkingface.faces.sketch import EDGES, canvas_size, draw_sketch, draw_sketches, sketch_canvas


@pytest.fixture
def landmarks():
    return np.random.default_rng(0).random((4, 2, 131)).astype(np.float32)


def test_shorter_side_has_the_asked_size():
    assert canvas_size(200.0, 160.0, 96) == (120, 96)
    assert canvas_size(123.456, 246.9, 96)[0] == 96
    assert canvas_size(77.7, 77.7, 128) == (128, 128)


def test_edge_with_a_point_outside_vanishes(landmarks):
    first = landmarks[0].copy()
    first[:] = np.nan  # nothing can be drawn
    a, b = EDGES[0]
    first[:, a], first[:, b] = (0.0, 0.0), (1.0, 1.0)
    assert sketch_canvas(first, 64, 64, 64).any()
    first[:, b] = (1.001, 1.0)
    assert not sketch_canvas(first, 64, 64, 64).any()


def test_far_corner_lies_on_the_canvas():
    points = np.full((2, 131), np.nan)
    a, b = EDGES[0]
    points[:, a], points[:, b] = (1.0, 1.0), (1.0, 0.0)
    canvas = sketch_canvas(points, 50, 50, 32)
    assert (canvas[:, 31] == 224).all() and not canvas[:, :31].any()


def test_batch_equals_single_sketches_and_takes_one_shape_or_many(landmarks):
    shapes = np.array([[200.0, 160.0], [150.5, 150.5], [96, 130], [88, 88]])
    batch = draw_sketches(landmarks, shapes, 96)
    assert batch.shape == (4, 96, 96) and batch.dtype == np.float32
    for one, points, (height, width) in zip(batch, landmarks, shapes):
        np.testing.assert_allclose(one, draw_sketch(points, height, width, 96) / 255, atol=1e-7)
    np.testing.assert_array_equal(draw_sketches(landmarks, (200, 160), 96)[0], batch[0])
    assert 0 < batch.max() <= 224 / 255 + 1e-6


def test_rounded_sketches_hold_whole_grey_levels(landmarks):
    levels = draw_sketches(landmarks, (200, 160), 96, rounded=True) * 255
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-4)
