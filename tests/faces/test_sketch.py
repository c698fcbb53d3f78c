from __future__ import annotations

import numpy as np
import pytest

from talkingface.faces.mesh import IPLAP_EDGES
from talkingface.faces.sketch import EDGES, canvas_size, draw_sketch, draw_sketches, face_sketch, sketch_canvas


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


# -- HyperLips' sketch -------------------------------------------------------------------------------------------------


def line_alone(start, end) -> np.ndarray:
    """A mesh (478, 2) of which one edge can be drawn."""
    points = np.full((478, 2), np.nan)
    a, b = IPLAP_EDGES[0]
    points[a], points[b] = start, end
    return points


def test_a_line_is_white_two_pixels_of_128_wide_and_ends_on_the_canvas():
    upright = face_sketch(line_alone((0.25, 0.0), (0.25, 1.0)), 128)
    assert set(np.unique(upright)) == {0, 255}
    assert 2 <= (upright[64] > 0).sum() <= 3 and upright[64, 32] == 255
    assert upright[127, 32] == 255  # floor(1.0 * 128) would lie outside
    assert face_sketch(line_alone((1.0, 0.0), (1.0, 1.0)), 64)[32, 63] == 255


def test_widths_scale_with_the_canvas_and_the_published_ones_are_thicker():
    line = line_alone((0.1, 0.5), (0.9, 0.5))

    def thickness(size, style="unified", side=128.0) -> int:
        return int((face_sketch(line, size, style, side)[:, size // 2] > 0).sum())

    assert thickness(64) <= thickness(128) < thickness(256)
    assert thickness(128, "upstream_infer") in (6, 7)
    # 6 px of a crop of 500 px are 1.5 px of 128, and a blur of 5 px makes whatever it reaches white.
    assert 4 <= thickness(128, "upstream_train", 500) <= 7
    assert thickness(128, "upstream_train", 100) >= 10


def test_an_edge_with_an_end_outside_or_unknown_vanishes():
    assert not face_sketch(line_alone((0.5, 0.5), (1.01, 0.5)), 64).any()
    assert not face_sketch(line_alone((0.5, 0.5), (np.nan, 0.5)), 64).any()
    assert not face_sketch(line_alone((-0.01, 0.5), (0.5, 0.5)), 64, "upstream_train", 100).any()
