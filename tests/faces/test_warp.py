"""The triangle warp: what lies where, in which order, and what is empty; fields over a mesh."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy.spatial import Delaunay

from talkingface.faces.warp import (
    SmoothField,
    TriangleWarp,
    edges_of,
    mean_of_neighbours,
    signed_areas,
    untangle,
    with_edges,
)


def grid(count: int = 5, side: float = 63.0) -> tuple[np.ndarray, np.ndarray]:
    """Points of a square grid and its triangles, all of positive area."""
    line = np.linspace(0, side, count)
    points = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    triangles = Delaunay(points).simplices
    back = signed_areas(points, triangles) < 0
    triangles[back] = triangles[back][:, ::-1]
    return points, triangles


@pytest.fixture(scope="module")
def picture():
    noise = np.random.default_rng(0).uniform(0, 255, (64, 64, 3)).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 2.0) * 3 - 255


@pytest.mark.parametrize("kind", [{}, {"both_sides": True, "filled": False}])
def test_points_that_have_not_moved_give_the_picture_back(picture, kind):
    points, triangles = grid()
    warp = TriangleWarp(points, triangles, (64, 64), **kind)
    assert np.abs(warp(picture, points) - picture).max() < 1
    whole = picture.clip(0, 255).astype(np.uint8)
    assert np.abs(warp(whole, points).astype(int) - whole).max() <= 1


def test_it_agrees_with_the_slow_warp_of_scikit_image(picture):
    transform = pytest.importorskip("skimage.transform")
    points, triangles = grid()
    moved = points.copy()
    inner = ((points > 0) & (points < 63)).all(axis=1)
    moved[inner] += np.random.default_rng(1).uniform(-5, 5, (inner.sum(), 2))
    slow = transform.PiecewiseAffineTransform()
    slow.estimate(moved, points)
    fresh = Delaunay(moved).simplices  # as it takes them
    back = signed_areas(moved, fresh) < 0
    fresh[back] = fresh[back][:, ::-1]
    wanted = transform.warp(picture, slow, output_shape=(64, 64), order=1)
    found = TriangleWarp(points, fresh, (64, 64))(picture, moved)
    difference = np.abs(found - wanted)[2:-2, 2:-2]
    assert difference.mean() < 0.5 and np.quantile(difference, 0.99) < 3


def test_a_moved_point_takes_its_surroundings_along():
    points, triangles = grid(3, 60.0)
    picture = np.zeros((61, 61), np.uint8)
    cv2.circle(picture, (30, 30), 3, 255, -1)
    moved = points.copy()
    moved[4] += (10, -6)
    rows, columns = np.nonzero(TriangleWarp(points, triangles, (61, 61))(picture, moved) > 128)
    assert (columns.mean(), rows.mean()) == pytest.approx((40, 24), abs=1.5)


def test_later_triangles_lie_above_earlier_ones():
    points = np.array([[0, 0], [20, 0], [0, 20], [40, 0], [60, 0], [40, 20]], float)
    picture = np.zeros((41, 61), np.uint8)
    picture[:, :30], picture[:, 30:] = 50, 200
    onto = points.copy()
    onto[3:] -= (40, 0)
    for triangles, shown in (([[0, 1, 2], [3, 4, 5]], 200), ([[3, 4, 5], [0, 1, 2]], 50)):
        assert TriangleWarp(points, np.array(triangles), (41, 61))(picture, onto)[5, 5] == shown


def test_empty_places_are_empty_or_go_on_with_what_is_next_to_them():
    points, triangles = grid(3, 40.0)
    picture = np.full((64, 64, 4), 255, np.uint8)
    moved = points + 10
    assert (TriangleWarp(points, triangles, (64, 64))(picture, moved) == 255).all()
    empty = TriangleWarp(points, triangles, (64, 64), filled=False)(picture, moved)
    assert not empty[:9].any() and not empty[53:].any() and (empty[11:50, 11:50] == 255).all()


def test_a_triangle_that_shows_its_back_is_drawn_only_when_asked_for():
    points, triangles = np.array([[0, 0], [30, 0], [0, 30.0]]), np.array([[0, 1, 2]])
    flipped = np.array([[30, 0], [0, 0], [30, 30.0]])
    picture = np.full((31, 31), 255, np.uint8)
    for both_sides, shown in ((False, 0), (True, 255)):
        warp = TriangleWarp(points, triangles, (31, 31), both_sides=both_sides, filled=False)
        assert warp(picture, flipped)[5, 25] == shown


def test_points_far_outside_are_no_trouble(picture):
    points, triangles = grid()
    outside = points.copy()
    outside[points[:, 0] == 0, 0] -= 5000
    warp = TriangleWarp(outside, triangles, (64, 64), both_sides=True, filled=False)
    moved = outside + (2, 0)
    assert np.abs(warp(picture, moved)[:, 20:60] - picture[:, 18:58]).max() < 1


def test_a_smooth_field_goes_through_its_handles_and_does_not_overshoot():
    points, triangles = grid(9, 80.0)
    handles = np.array([0, 8, 72, 80, 40])
    values = np.array([[0, 0], [0, 0], [0, 0], [0, 0], [4, 2.0]])
    field = SmoothField(points, triangles).extend(handles, values)
    np.testing.assert_allclose(field[handles], values)
    assert (field >= -0.5).all() and (field <= [4.001, 2.001]).all() and 1 < field[31, 0] < 4


def test_a_fold_is_mended_and_what_may_not_move_stays():
    points, triangles = grid()
    folded = points.copy()
    folded[12] += (25, 0)
    assert (signed_areas(folded, triangles) < 0).any()
    movable = ((points > 0) & (points < 63)).all(axis=1)
    mended = untangle(folded, triangles, movable)
    assert (signed_areas(mended, triangles) > 0).all()
    np.testing.assert_array_equal(mended[~movable], points[~movable])


def test_edges_and_means_of_neighbours():
    triangles = np.array([[0, 1, 2], [2, 1, 3]])
    assert edges_of(triangles).tolist() == [[0, 1], [0, 2], [1, 2], [1, 3], [2, 3]]
    assert mean_of_neighbours(triangles, 4)[0].tolist() == [0, 0.5, 0.5, 0]


def test_edges_that_are_wanted_are_there_and_the_area_is_the_same():
    points = np.random.default_rng(3).uniform(0, 100, (40, 2))
    triangles = Delaunay(points).simplices
    back = signed_areas(points, triangles) < 0
    triangles[back] = triangles[back][:, ::-1]
    left, right = int(points[:, 0].argmin()), int(points[:, 0].argmax())
    missing = [edge for edge in ((left, right), (0, 1), (2, 3)) if sorted(edge) not in edges_of(triangles).tolist()]
    assert len(missing) > 1
    found = with_edges(points, triangles, missing[:1])
    assert sorted(missing[0]) in edges_of(found).tolist()
    areas = signed_areas(points, found)
    assert (areas > 0).all() and areas.sum() == pytest.approx(signed_areas(points, triangles).sum())
    assert len(found) == len(triangles)
    np.testing.assert_array_equal(with_edges(points, triangles, edges_of(triangles)[:5].tolist()), triangles)
