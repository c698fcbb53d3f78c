"""The mesh of a puppet: landmarks, points along the border of the picture, and triangles between them.

Source: published puppets of MakeItTalk (order of the border, what is left out).
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.spatial import Delaunay

from talkingface.faces.ibug68 import CURVES, INNER_LIPS, OUTER_LIPS, POINTS, eye_distances
from talkingface.faces.warp import signed_areas, with_edges
from talkingface.models.makeittalk.config import Anchor

SLIVER = 2.0
"""Twice an area in square pixels that counts as none."""

_FAR = 5000.0
_OPENED = 0.06  # eye distances by which a closed mouth is opened where its triangles are chosen
_LOWER_LIPS = (55, 56, 57, 58, 59, 65, 66, 67)
_LIP_TRIANGLES = tuple(
    (outer, outer + 1 if outer < 59 else 48, inner)
    for outer, inners in zip(
        range(48, 60),
        ((60,), (60, 61), (61, 62), (62, 63), (63, 64), (64,), (64,), (64, 65), (65, 66), (66, 67), (67, 60), (60,)),
        strict=True,
    )
    for inner in inners
)
_FACE_LINES = tuple(
    edge for line, closed in CURVES for edge in (*pairwise(line), *(((line[-1], line[0]),) if closed else ()))
)
_JITTER = 1e-3  # pixels that equal points are moved apart
_ALL = tuple(range(POINTS))
_WITHOUT_OUTER_LIPS = tuple(point for point in _ALL if not OUTER_LIPS.start <= point < OUTER_LIPS.stop)


class Layout(NamedTuple):
    """Which points a mesh has.

    Attributes:
        points: landmarks.
        border: points on the border that follow them.
    """

    points: tuple[int, ...]
    border: int


LAYOUTS: dict[int, Layout] = {
    80: Layout(_ALL, 12),
    76: Layout(_ALL, 8),
    68: Layout(_WITHOUT_OUTER_LIPS, 12),
    64: Layout(_WITHOUT_OUTER_LIPS, 8),
}
"""By the number of vertices, which decides uniquely."""

_BORDERS = {
    12: ((0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (2, 4), (4, 4), (4, 2), (4, 0), (1, 0), (2, 0), (3, 0)),
    8: ((0, 0), (0, 2), (0, 4), (2, 4), (4, 4), (4, 2), (4, 0), (2, 0)),
}
"""x and y in quarters of the picture."""


def border(size: tuple[int, int], count: int, anchor: Anchor = "border") -> np.ndarray:
    """Points (count, 2) on the border of a picture.

    Args:
        size: height and width.
        count: 12 or 8.
        anchor: see `config.Anchor`; only the coordinate that leads outwards is moved, of corners both.
    """
    quarters, last = np.array(_BORDERS[count]), np.array([size[1] - 1, size[0] - 1])
    points = (quarters * last // 4).astype(np.float64)
    if anchor == "far":
        points += _FAR * ((quarters == 4).astype(int) - (quarters == 0))
    return points


def vertices(points: np.ndarray, size: tuple[int, int], layout: Layout, anchor: Anchor = "border") -> np.ndarray:
    """All vertices (V, 2) of a mesh for landmarks (68, 2) in pixels."""
    return np.concatenate([points[list(layout.points), :2], border(size, layout.border, anchor)])


def triangulated(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Triangles (T, 3) of a new puppet with 80 vertices, all turned the same way.

    A closed mouth is thought open while they are chosen: where lips lie on each other, triangles would join chin and
    nose, and nothing could open between them.

    Args:
        points: (68, 2) landmarks of the drawing in pixels.
        size: of the picture, height and width.
    """
    layout, opened = LAYOUTS[80], np.array(points, np.float64)
    gap = float((opened[[67, 66, 65], 1] - opened[[61, 62, 63], 1]).mean())
    wanted = _OPENED * float(eye_distances(opened))
    opened[list(_LOWER_LIPS), 1] += max(0.0, wanted - gap)
    own = vertices(points, size, layout)
    for chosen in (opened, points):
        placed = vertices(chosen, size, layout)
        plain = _delaunay(placed)
        for triangles in (with_edges(placed, plain, _FACE_LINES), plain):
            if not (signed_areas(own, triangles) < -SLIVER).any():
                return triangles
    return plain


def _delaunay(placed: np.ndarray) -> np.ndarray:
    triangles = Delaunay(placed).simplices
    if len(np.unique(triangles)) < len(placed):  # equal points: all but one are left out
        placed = placed + np.random.default_rng(0).uniform(-_JITTER, _JITTER, placed.shape)
        triangles = Delaunay(placed).simplices
    turned = signed_areas(placed, triangles) < 0
    triangles[turned] = triangles[turned][:, ::-1]
    return triangles.astype(np.int64)


def lips_turned(face: np.ndarray) -> np.ndarray:
    """Which way the triangles between outer and inner lips of a face (68, 2 or 3) are turned: 1, -1, or 0 for none."""
    areas = signed_areas(np.asarray(face), np.array(_LIP_TRIANGLES))
    unit = max(float(np.linalg.norm(face[48, :2] - face[54, :2])), 1e-9)
    return np.sign(np.where(np.abs(areas) < 1e-4 * unit**2, 0, areas))


def mouth_gap(face: np.ndarray) -> float:
    """How far the inner lips of a face (68, 2 or 3) are apart in their middle, in shares of the mouth's width."""
    lips = face[INNER_LIPS, :2]
    return float(np.linalg.norm(lips[2] - lips[6]) / max(float(np.linalg.norm(lips[0] - lips[4])), 1e-9))
