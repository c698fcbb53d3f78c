"""Frontal and upright crops by hand: known motions are found, boxes lie where they should."""

from __future__ import annotations

import numpy as np
import pytest

from talkingface.faces.affine import mapped
from talkingface.faces.dubbing_crop import (
    FITTED,
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
