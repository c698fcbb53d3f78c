"""Face-mesh topology and the smooth fields that move it.

Point numbers are those of the MediaPipe face mesh (468 points). The triangles are its published tessellation with the
eyes closed by strips of triangles; the mouth stays a hole.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.spatial import ConvexHull, Delaunay

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


def signed_areas(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """(T,) twice the signed area of each triangle of points (V, 2)."""
    a, b, c = (points[triangles[:, i], :2] for i in range(3))
    return (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])


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


def edges_of(triangles: np.ndarray) -> np.ndarray:
    """(E, 2) undirected edges, each once."""
    both = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    return np.unique(np.sort(both, axis=1), axis=0)


def mean_of_neighbours(triangles: np.ndarray, count: int) -> np.ndarray:
    """(count, count) matrix that takes points to the mean of their mesh neighbours."""
    edges = edges_of(triangles)
    matrix = np.zeros((count, count))
    matrix[edges[:, 0], edges[:, 1]] = matrix[edges[:, 1], edges[:, 0]] = 1.0
    return matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1.0)


class SmoothField:
    """Extends displacements of a few handle points smoothly over the whole mesh.

    Minimises the squared graph Laplacian (edges weighted by inverse length), the discrete thin plate: no hand-made
    weights outside the handles, and therefore no creases between them.
    """

    def __init__(self, points: np.ndarray, triangles: np.ndarray) -> None:
        edges = edges_of(triangles)
        weight = 1.0 / (np.linalg.norm(points[edges[:, 0], :2] - points[edges[:, 1], :2], axis=1) + 1e-3)
        count = len(points)
        adjacency = np.zeros((count, count))
        adjacency[edges[:, 0], edges[:, 1]] = weight
        adjacency[edges[:, 1], edges[:, 0]] = weight
        degree = adjacency.sum(axis=1, keepdims=True)
        laplacian = np.eye(count) - adjacency / np.maximum(degree, 1e-9)
        # A little of the plain Laplacian keeps the thin plate from overshooting far from its handles.
        self._energy = laplacian.T @ laplacian + 0.002 * (laplacian + laplacian.T) / 2

    def extend(self, handles: np.ndarray, values: np.ndarray) -> np.ndarray:
        """(V, 2) field that equals `values` (n, 2) at the point numbers `handles` (n,)."""
        count = len(self._energy)
        field = np.zeros((count, values.shape[1]))
        field[handles] = values
        free = np.ones(count, bool)
        free[handles] = False
        right = -self._energy[np.ix_(free, handles)] @ values
        field[free] = np.linalg.solve(self._energy[np.ix_(free, free)], right)
        return field


def untangle(
    points: np.ndarray,
    triangles: np.ndarray,
    movable: np.ndarray,
    rounds: int = 60,
    neighbours: np.ndarray | None = None,
) -> np.ndarray:
    """Move the corners of flipped triangles towards their neighbours' mean until nothing overlaps.

    Args:
        points: (V, 2).
        triangles: (T, 3), positive orientation wanted.
        movable: (V,) bool, points that may move.
        rounds: upper limit of sweeps; what still overlaps then is skipped by the rasteriser.
        neighbours: (V, V) row-normalised adjacency, `mean_of_neighbours`, when it is at hand.
    """
    if neighbours is None:
        neighbours = mean_of_neighbours(triangles, len(points))
    points = points.copy()
    for _ in range(rounds):
        bad = signed_areas(points, triangles) <= 0.05
        if not bad.any():
            break
        move = np.zeros(len(points), bool)
        move[triangles[bad].ravel()] = True
        move &= movable
        # Half way: neighbours that all jump to each other's mean at once overshoot.
        points[move] += 0.5 * (neighbours[move] @ points - points[move])
    return points
