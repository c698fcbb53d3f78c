"""The 68 points of iBUG: which is which, and measures that follow from the points alone. Left is left in the picture.

Whoever goes from the mesh to these points asks `mesh.to_ibug68`.
"""

from __future__ import annotations

import numpy as np

POINTS = 68
JAW, RIGHT_BROW, LEFT_BROW, NOSE = slice(0, 17), slice(17, 22), slice(22, 27), slice(27, 36)
RIGHT_EYE, LEFT_EYE = slice(36, 42), slice(42, 48)
LIPS, OUTER_LIPS, INNER_LIPS = slice(48, 68), slice(48, 60), slice(60, 68)
EYE_CORNERS = (36, 45)
"""Outer corners: their distance is the unit of many papers."""

OUTER_LIP_PAIRS = ((49, 50, 51, 52, 53), (59, 58, 57, 56, 55))
"""Points of the upper outer lip between its corners, and those below them."""

INNER_LIP_PAIRS = ((61, 62, 63), (67, 66, 65))
"""The same of the inner lip."""

LID_PAIRS = ((37, 38, 43, 44), (41, 40, 47, 46))
"""Points of the upper lids, and those below them."""

MIRRORED = (
    *range(16, -1, -1),
    *range(26, 16, -1),
    *(27, 28, 29, 30, 35, 34, 33, 32, 31),
    *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),
    *(54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55),
    *(64, 63, 62, 61, 60, 67, 66, 65),
)
"""The point that each becomes in a mirrored face."""

CURVES: tuple[tuple[range, bool], ...] = (
    (range(0, 17), False),
    (range(17, 22), False),
    (range(22, 27), False),
    (range(27, 36), False),
    (range(36, 42), True),
    (range(42, 48), True),
    (range(48, 60), True),
    (range(60, 68), True),
)
"""Lines of a face, and whether they are closed. Bridge and base of the nose are one line."""


def neighbours() -> tuple[np.ndarray, np.ndarray]:
    """Both neighbours of each point along its line, (68,) each; an end has its single one twice."""
    before, after = np.empty(POINTS, np.int64), np.empty(POINTS, np.int64)
    for curve, closed in CURVES:
        points = np.array(curve)
        before[points], after[points] = np.roll(points, 1), np.roll(points, -1)
        if not closed:
            before[points[0]], after[points[-1]] = points[1], points[-2]
    return before, after


def mouth_areas(points: np.ndarray) -> np.ndarray:
    """Signed area inside the inner lips (...,) of points (..., 68, 2 or 3), y down: negative where the lips cross.

    A mouth that is half crossed may have either sign: what counts is the whole.
    """
    return _fan(points).sum(axis=-1)


def mouth_openings(points: np.ndarray) -> np.ndarray:
    """Area between the inner lips (...,) of points (..., 68, 2 or 3), crossed parts counted as open."""
    return np.abs(_fan(points)).sum(axis=-1)


def _fan(points: np.ndarray) -> np.ndarray:
    """Signed areas (..., 6) of the triangles from point 60 to the lines between the other inner points."""
    spokes = points[..., 61:68, :2] - points[..., 60:61, :2]
    first, second = spokes[..., :-1, :], spokes[..., 1:, :]
    return (first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0]) / 2


def eye_distances(points: np.ndarray) -> np.ndarray:
    """Distance of the outer eye corners (...,) of points (..., 68, D), in all D coordinates."""
    return np.linalg.norm(points[..., EYE_CORNERS[1], :] - points[..., EYE_CORNERS[0], :], axis=-1)
