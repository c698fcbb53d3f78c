"""Crops by a matrix and the way back: exact where it can be computed by hand, without holes, black or edges."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from talkingface.errors import DataError
from talkingface.faces.affine import crop_by_matrix, frame_boxes, inverse, mapped, paste_by_matrix, paste_scattered


def picture(height: int = 120, width: int = 160) -> np.ndarray:
    """A smooth one: resampling hardly changes it."""
    noise = np.random.default_rng(0).uniform(0, 255, (height // 40, width // 40, 3)).astype(np.float32)
    return np.clip(np.rint(cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)), 0, 255).astype(np.uint8)


def matrix(scale: float, degrees: float, x: float, y: float) -> np.ndarray:
    """Turn about the frame's origin with a scale, then shift."""
    cos, sin = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    return np.array([[cos, -sin, x], [sin, cos, y]])


def test_a_shift_by_whole_pixels_is_a_slice_and_black_beyond_the_frame():
    frame = picture()
    crop = crop_by_matrix(frame, matrix(1, 0, -30, 10), (60, 50))
    assert crop.dtype == np.uint8 and not crop[:10].any()
    np.testing.assert_array_equal(crop[10:], frame[:50, 30:80])


def test_matrices_and_their_inverses_move_points_there_and_back():
    points, there = np.random.default_rng(0).uniform(0, 100, (2, 5, 2)), np.stack([matrix(2, 30, 5, 6)] * 2)
    back = np.stack([inverse(each) for each in there])
    np.testing.assert_allclose(mapped(mapped(points, there), back), points)
    np.testing.assert_allclose(mapped(np.array([[1.0, 0.0]]), matrix(2, 90, 5, 6)), [[5, 8]])


def test_the_published_crop_misses_its_place_by_up_to_half_a_pixel():
    """On a ramp of 1 per pixel, 101 of them in frame and crop, pixel j of the crop shows (j + 1/2) - 1/2 + e.

    The crop's 100 / 101 and the frame's 101 / 100 cancel at scale 1; shrunk to half, 51 pixels wide, j shows
    (2 (j + 1/2) 50/51) 101/100 - 1/2, which is 0.49 px to the right at first and 0.51 px to the left at last.
    """
    ramp = np.broadcast_to(np.arange(101.0)[None, :, None] + 100, (101, 101, 3)).copy()
    published = crop_by_matrix(ramp, matrix(0.5, 0, 0, 0), (51, 51), half_pixel=True)[25, :, 0] - 100
    missed = published - 2 * np.arange(51)
    assert missed[[0, 50]] == pytest.approx([50 / 51 * 1.01 - 0.5, 101 * 50 / 51 * 1.01 - 0.5 - 100], abs=1e-3)
    assert missed[0] == pytest.approx(0.49, abs=0.001) and missed[50] == pytest.approx(-0.49, abs=0.02)


def test_a_shrunken_crop_is_a_mean_of_what_it_shows():
    chequered = np.indices((80, 80)).sum(axis=0) % 2 * 255
    frame = np.repeat(chequered[..., None], 3, axis=2).astype(np.uint8)
    quarter = matrix(0.25, 0, -0.375, -0.375)  # centres of 4x4 pixels
    assert set(np.unique(crop_by_matrix(frame, quarter, (20, 20)))) <= {127, 128}


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("degrees", [0, 20])
def test_a_true_crop_pastes_to_within_a_grey_level_and_leaves_the_rest(scale, degrees):
    frame, size = picture(), (round(60 * scale), round(70 * scale))
    there = matrix(scale, degrees, 0, 0)
    there[:, 2] = (np.array(size[::-1]) - 1) / 2 - there[:, :2] @ [79.5, 59.5]  # middle to middle
    crop = crop_by_matrix(frame.astype(np.float32), there, size)
    weights = np.zeros(size, np.float32)
    weights[4:-4, 4:-4] = 1
    pasted = paste_by_matrix(frame, crop, there, weights)
    white = np.full((*size, 3), 255, np.uint8)
    inside = paste_by_matrix(np.zeros_like(frame), white, there, weights)[..., 0] > 0
    error = np.abs(pasted.astype(int) - frame)
    assert inside.sum() == pytest.approx((60 - 8 / scale) * (70 - 8 / scale), rel=0.1)
    assert error[~inside].max() == 0 and error[inside].max() <= (2 if scale < 1 else 1)


@pytest.mark.parametrize("degrees", [0, 20])
def test_rounds_of_pasting_undo_the_blur_of_sampling_twice(degrees):
    """On noise of a few pixels, which plain pasting blurs; and nothing else changes."""
    noise = np.random.default_rng(0).normal(0, 1, (120, 160, 3))
    noise = gaussian_filter(noise, (1.2, 1.2, 0))
    frame = np.clip(np.rint(128 + 40 * noise / noise.std()), 0, 255).astype(np.uint8)
    there, size = matrix(1.6, degrees, 0, 0), (110, 96)
    there[:, 2] = (np.array(size[::-1]) - 1) / 2 - there[:, :2] @ [79.5, 59.5]
    weights = np.zeros(size, np.float32)
    weights[8:-8, 8:-8] = 1
    crop, error = crop_by_matrix(frame, there, size), {}
    for rounds in (0, 1, 3):
        pasted = paste_by_matrix(frame, crop, there, weights, rounds)
        inside = paste_by_matrix(0 * frame, np.full_like(crop, 255), there, weights, rounds)[..., 0] > 0
        error[rounds] = np.abs(pasted.astype(int) - frame)
        assert not error[rounds][~inside].any()
        error[rounds] = error[rounds][inside]
    assert error[0].mean() > 2 * error[1].mean() > 4 * error[3].mean()
    assert (error[0] <= 1).mean() < 0.6 and (error[3] <= 1).mean() > 0.95


def test_a_face_twice_as_large_as_its_crop_has_no_holes_but_scattered_ones_has():
    frame, face, there = (
        np.zeros((120, 160, 3), np.uint8),
        np.full((30, 30, 3), 200, np.uint8),
        matrix(0.5, 0, -10, -10),
    )
    full = paste_by_matrix(frame, face, there, np.ones((30, 30)))[22:76, 22:76]
    assert (full == 200).all()
    holes = paste_scattered(frame, face, there)[22:76, 22:76] == 0
    assert holes.mean() == pytest.approx(0.75, abs=0.02)


def test_the_face_goes_on_to_its_edge_without_black():
    """Whatever the weight, what is mixed in is the face: no pixel gets darker than both."""
    frame, face = np.full((60, 60, 3), 100, np.uint8), np.full((20, 20, 3), 100, np.uint8)
    pasted = paste_by_matrix(frame, face, matrix(0.7, 10, 0, -10), np.ones((20, 20)))
    np.testing.assert_array_equal(pasted, frame)


def test_crops_beside_the_frame_change_nothing_and_scattered_pixels_outside_are_left_out():
    frame, face = picture(), np.zeros((20, 20, 3), np.uint8)
    np.testing.assert_array_equal(paste_by_matrix(frame, face, matrix(1, 0, 500, 0), np.ones((20, 20))), frame)
    half_out = paste_scattered(frame, face, matrix(1, 0, 10, 0))
    np.testing.assert_array_equal(half_out[:, 10:], frame[:, 10:])
    assert not half_out[:20, :10].any()
    assert not crop_by_matrix(frame, matrix(1, 0, 500, 0), (20, 20)).any()


def test_boxes_enclose_what_crops_show_inside_the_frame():
    """A crop of 20x10 at half size shows 40x20; turned by 90 degrees it shows 10x20."""
    half, turned = matrix(0.5, 0, -10, -5), np.array([[0.0, 1, -50], [-1, 0, 40]])
    boxes = frame_boxes(np.stack([half, turned, half + [[0, 0, 30], [0, 0, 0]], half * np.nan]), (10, 20), (100, 120))
    np.testing.assert_allclose(boxes[0], [19.5, 9.5, 59.5, 29.5])
    np.testing.assert_allclose(boxes[1], [31, 50, 41, 70])
    np.testing.assert_allclose(boxes[2], [0, 9.5, 0, 29.5])
    assert np.isnan(boxes[3]).all()


def test_a_frame_without_a_face_is_refused_in_words():
    with pytest.raises(DataError, match="without a face"):
        crop_by_matrix(picture(), np.full((2, 3), np.nan), (20, 20))
