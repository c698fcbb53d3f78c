"""The 68 points: lines, neighbours, measures."""

from __future__ import annotations

import numpy as np
import pytest

from talkingface.faces import ibug68


def test_every_point_lies_on_exactly_one_line():
    assert sorted(point for curve, _ in ibug68.CURVES for point in curve) == list(range(68))


def test_neighbours_by_hand():
    before, after = ibug68.neighbours()
    wanted = {0: (1, 1), 8: (7, 9), 16: (15, 15), 17: (18, 18), 30: (29, 31), 35: (34, 34), 36: (41, 37), 47: (46, 42)}
    wanted |= {48: (59, 49), 59: (58, 48), 60: (67, 61), 67: (66, 60)}
    assert {point: (before[point], after[point]) for point in wanted} == wanted


def test_pairs_lie_above_each_other():
    for upper, lower in (ibug68.OUTER_LIP_PAIRS, ibug68.INNER_LIP_PAIRS):
        assert len({u + v for u, v in zip(upper, lower, strict=True)}) == 1
    assert [u + v for u, v in zip(*ibug68.LID_PAIRS, strict=True)] == [78, 78, 90, 90]


def test_mirrored_twice_is_the_face_itself_and_lines_stay_lines():
    mirrored = np.array(ibug68.MIRRORED)
    assert (mirrored[mirrored] == np.arange(68)).all()
    before, after = ibug68.neighbours()
    for point in set(range(68)) - {30, 31, 35}:  # the line of the nose goes from its bridge to one side of its base
        assert {before[mirrored[point]], after[mirrored[point]]} == {mirrored[before[point]], mirrored[after[point]]}
    for upper, lower in (ibug68.OUTER_LIP_PAIRS, ibug68.INNER_LIP_PAIRS, ibug68.LID_PAIRS):
        pairs = set(zip(upper, lower, strict=True))
        assert {(mirrored[u], mirrored[v]) for u, v in pairs} == pairs


def square_mouth(height: float) -> np.ndarray:
    """A face whose inner lips are a box 4 wide, y down."""
    face = np.zeros((68, 3))
    face[60:68, 0] = (0, 1, 2, 3, 4, 3, 2, 1)
    face[61:64, 1], face[65:68, 1] = -height / 2, height / 2
    return face


def test_the_area_of_a_mouth_is_signed_and_its_opening_is_not():
    faces = np.stack([square_mouth(h) for h in (2.0, 0.0, -2.0)])
    assert ibug68.mouth_areas(faces).tolist() == pytest.approx([6, 0, -6])
    assert ibug68.mouth_openings(faces).tolist() == pytest.approx([6, 0, 6])
    half = square_mouth(2.0)
    half[61, 1], half[67, 1] = half[67, 1], half[61, 1]
    assert ibug68.mouth_openings(half) > ibug68.mouth_areas(half)


def test_eye_distance():
    face = np.zeros((2, 68, 3))
    face[:, 45] = (3, 4, 0)
    assert ibug68.eye_distances(face).tolist() == [5, 5]
