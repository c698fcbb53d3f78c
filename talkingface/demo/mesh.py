"""Face-mesh topology, and the mesh of a face with its surroundings.

Point numbers are those of the MediaPipe face mesh (468 points). The triangles are its published tessellation with the
eyes closed by strips of triangles; the mouth stays a hole.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.spatial import ConvexHull, Delaunay

from talkingface.faces.warp import signed_areas

HERE = Path(__file__).parent
POINTS = 468
FOREHEAD, CHIN, NOSE_BASE = 10, 152, 2

# Lip rows, image left to right; the corners belong to the upper and to the lower row.
UPPER_OUTER = [61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291]
UPPER_MID = [76, 184, 74, 73, 72, 11, 302, 303, 304, 408, 306]
UPPER_NEAR = [62, 183, 42, 41, 38, 12, 268, 271, 272, 407, 292]
UPPER_INNER = [78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308]
LOWER_OUTER = [61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291]
LOWER_MID = [76, 77, 90, 180, 85, 16, 315, 404, 320, 307, 306]
LOWER_NEAR = [62, 96, 89, 179, 86, 15, 316, 403, 319, 325, 292]
LOWER_INNER = [78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308]
UPPER_ROWS = np.array([UPPER_OUTER, UPPER_MID, UPPER_NEAR, UPPER_INNER])
LOWER_ROWS = np.array([LOWER_OUTER, LOWER_MID, LOWER_NEAR, LOWER_INNER])
LIPS = np.unique(np.concatenate([UPPER_ROWS, LOWER_ROWS]))
INNER_LOOP = UPPER_INNER + LOWER_INNER[-2:0:-1]
LIP_LANDMARKS = UPPER_OUTER + LOWER_OUTER[-2:0:-1] + INNER_LOOP  # 20 outer, then 20 inner

EYES = (  # (upper lid line, lower lid line), image left to right
    ([33, 246, 161, 160, 159, 158, 157, 173, 133], [33, 7, 163, 144, 145, 153, 154, 155, 133]),
    ([362, 398, 384, 385, 386, 387, 388, 466, 263], [362, 382, 381, 380, 374, 373, 390, 249, 263]),
)
BROWS = [70, 63, 105, 66, 107, 46, 53, 52, 65, 55, 300, 293, 334, 296, 336, 276, 283, 282, 295, 285]
NOSE = [
    1,
    2,
    4,
    5,
    6,
    19,
    48,
    64,
    94,
    97,
    98,
    115,
    129,
    168,
    195,
    197,
    219,
    240,
    278,
    294,
    326,
    327,
    344,
    358,
    439,
    460,
]
OVAL = [
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
]


@lru_cache(maxsize=1)
def face_triangles() -> np.ndarray:
    """(T, 3) point numbers, all with the same orientation seen from the front."""
    return np.array(json.loads((HERE / "facemesh.json").read_text())["triangles"], np.int32)


def inside(points: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """(n,) bool, whether each point (n, 2) lies in the polygon (m, 2)."""
    x, y = points[:, :1], points[:, 1:2]
    a, b = polygon, np.roll(polygon, -1, axis=0)
    crosses = (a[:, 1] > y) != (b[:, 1] > y)
    with np.errstate(divide="ignore", invalid="ignore"):
        at = a[:, 0] + (y - a[:, 1]) * (b[:, 0] - a[:, 0]) / (b[:, 1] - a[:, 1])
    return (np.sum(crosses & (x < at), axis=1) % 2).astype(bool)


def support_mesh(face: np.ndarray, size: int, rings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Surround the face by ring points and picture-border points, and triangulate face + surroundings.

    Args:
        face: (468, 2) points in pixels of a size x size picture.
        size: side of the picture in pixels.
        rings: (R, 2) points around the head.

    Returns:
        Extra points (E, 2), rings first and then the border; and all triangles (T, 3) over the 468 + E points.
    """
    # Border points lie outside the picture, so that a turning head never uncovers its edge.
    line = np.linspace(-0.12, 1.12, 9) * size
    low, high = line[0], line[-1]
    border = np.concatenate(
        [
            [(v, low) for v in line],
            [(v, high) for v in line],
            [(low, v) for v in line[1:-1]],
            [(high, v) for v in line[1:-1]],
        ]
    )
    # Rings may reach beyond the picture; border points inside or close to them would make slivers of triangles.
    keep = ~inside(border, _grown_hull(rings, 1.04))
    extra = np.concatenate([rings, border[keep]])
    outside = np.concatenate([face[OVAL], extra])
    number = np.concatenate([OVAL, POINTS + np.arange(len(extra))])
    local = Delaunay(outside).simplices
    centroids = outside[local].mean(axis=1)
    around = number[local[~inside(centroids, face[OVAL])]].astype(np.int32)
    everything = np.concatenate([face, extra])
    # One orientation everywhere: an overlap then shows as a negative area.
    flipped = signed_areas(everything, around) < 0
    around[flipped] = around[flipped][:, ::-1]
    inner = face_triangles()
    if np.median(signed_areas(face, inner)) < 0:
        inner = inner[:, ::-1]
    return extra, np.concatenate([inner, around])


def _grown_hull(points: np.ndarray, factor: float) -> np.ndarray:
    hull = points[ConvexHull(points).vertices]
    centre = hull.mean(axis=0)
    return centre + factor * (hull - centre)
