"""Frontal and upright crops by hand: known motions are found, boxes lie where they should."""

from __future__ import annotations

import numpy as np
import pytest

from talkingface.faces.affine import mapped
from talkingface.faces.dubbing_crop import (
    BLOCK,
    FITTED,
    block_matrices,
    crop_hw,
    fit_similarity,
    frontal_matrices,
    frontal_template,
    upright_matrices,
    upright_radius,
)


def landmarks() -> np.ndarray:
    """Two faces: the template, turned, scaled and shifted into a frame; other points anywhere."""
    points = np.random.default_rng(0).uniform(0, 300, (2, 68, 2))
    for face, (degrees, scale) in enumerate([(15, 80.0), (-40, 33.0)]):
        cos, sin = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
        points[face, list(FITTED)] = frontal_template() @ np.array([[cos, sin], [-sin, cos]]) + [120, 90]
    return points


def test_a_turned_face_comes_back_to_the_template_whatever_its_other_points():
    points = landmarks()
    found = mapped(points, frontal_matrices(points, 80))[:, list(FITTED)]
    wanted = frontal_template() * 40 + [40, 52]
    np.testing.assert_allclose(found, np.stack([wanted] * 2), atol=1e-9)


def test_no_small_change_of_a_fit_brings_the_points_closer():
    random = np.random.default_rng(1)
    points, targets = random.normal(size=(1, 25, 2)), random.normal(size=(25, 2))
    found = fit_similarity(points, targets)
    (a, b, x), (c, d, _) = found[0]
    assert a == pytest.approx(d) and b == pytest.approx(-c) and np.isfinite(x)
    best = np.square(mapped(points, found) - targets).sum()
    for change in np.eye(4):
        for step in (-1e-3, 1e-3):
            da, dc, dx, dy = change * step
            other = np.array([[[a + da, -(c + dc), x + dx], [c + dc, a + da, found[0, 1, 2] + dy]]])
            assert np.square(mapped(points, other) - targets).sum() > best


def test_frames_without_a_face_have_no_matrix():
    points = landmarks()
    points[1] = np.nan
    for matrices in (frontal_matrices(points, 80), upright_matrices(points, 80)):
        assert np.isfinite(matrices[0]).all() and np.isnan(matrices[1, :, 2]).all()
    assert np.isnan(fit_similarity(np.ones((1, 3, 2)), np.random.rand(3, 2))).all()


def test_crops_are_as_high_as_the_published_ones():
    assert [crop_hw(width) for width in (80, 320, 360)] == [(104, 80), (416, 320), (468, 360)]


def test_an_upright_box_has_the_published_edges():
    """Nose at (100, 60) and (102, 70), chin at 130, mouth 40 wide: half a side of 36, so rows 24 to 141."""
    points = np.full((1, 68, 2), 80.0)
    points[0, 29], points[0, 33], points[0, 8] = (100, 60), (102, 70), (101, 130)
    points[0, 48], points[0, 54] = (80, 90), (120, 90)
    assert upright_radius(points) == 40  # 70 * 1.05 // 2 = 36, and the next multiple of 4
    matrix = upright_matrices(points, 80)
    edges = np.array([[[102 - 50, 60 - 40], [102 + 50, 60 + 90]]]) - 0.5
    np.testing.assert_allclose(mapped(edges, matrix), [[[-0.5, -0.5], [79.5, 103.5]]], atol=1e-9)
    points[:, [48, 54]] = points[:, [54, 48]]
    assert upright_radius(points) == 40
    with pytest.raises(ValueError, match="no frame has landmarks"):
        upright_radius(np.full((2, 68, 2), np.nan))


def drifting(count: int) -> np.ndarray:
    """Faces (count, 68, 2) that move to the right, nose and mouth as in the test above."""
    points = np.full((count, 68, 2), 80.0)
    for index, place in {29: (100, 60), 33: (102, 70), 8: (101, 130), 48: (80, 90), 54: (120, 90)}.items():
        points[:, index] = place
    return points + np.arange(count)[:, None, None] * [1.0, 0.0]


def test_published_boxes_change_size_from_block_to_block_and_not_within():
    points = drifting(10 * BLOCK)
    matrices = block_matrices(points, 80, (400, 400))
    sides = 80 / matrices[:, 0, 0]
    assert sides.reshape(10, BLOCK).std(axis=1).max() == 0 and len(set(sides)) > 1
    radii = sides / 2.5
    assert set(radii) <= {40.0, 44.0}  # 70 * 1.05 // 2 = 36 and 70 * 1.15 // 2 = 40, and the next multiples of 4
    same = block_matrices(points.copy(), 80, (400, 400))
    np.testing.assert_array_equal(matrices, same, "made again they are the same")


def test_published_blocks_without_room_or_of_another_size_have_no_boxes():
    points = drifting(4 * BLOCK)
    points[0, :, 1] -= 30  # the box of the first frame begins above the picture
    points[BLOCK + 3] = (points[BLOCK + 3] - 100) * 2 + 100
    points[2 * BLOCK + 4] = np.nan
    finite = np.isfinite(block_matrices(points, 80, (400, 400))).all(axis=(1, 2))
    assert not finite[: 2 * BLOCK].any()
    assert np.flatnonzero(~finite[2 * BLOCK :]).tolist() == [4], "a frame without a face is alone without a box"
