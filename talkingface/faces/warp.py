"""Pictures moved by the triangles of a mesh: where each pixel comes from, smooth fields, overlaps mended.

The one place for it: the demo corpus draws its faces with it. A mesh has points (V, 2), y down, and triangles (T, 3) of
their numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import cv2
import numpy as np

_FRACTION = 8  # bits: rounded to whole pixels, triangles would jitter and leave gaps
_LEAST_AREA = 0.04  # twice the area in square pixels; smaller triangles cover no pixel
_NOWHERE = -(2.0**14)  # outside every picture


class TriangleWarp:
    """Where the pixels of a picture come from when the points of a mesh have moved.

    One affine map per triangle, all solved in one batched call; the picture is fetched with a single `cv2.remap`.

    Args:
        source: (V, 2) points in pixels of the picture that is moved.
        triangles: (T, 3), drawn in this order: later ones lie above earlier ones.
        size: height and width of the result.
        both_sides: also draw triangles of negative area, which show their back.
        filled: where no triangle lies, go on with the nearest one; otherwise the result is empty (zeros) there.
    """

    def __init__(
        self,
        source: np.ndarray,
        triangles: np.ndarray,
        size: tuple[int, int],
        both_sides: bool = False,
        filled: bool = True,
    ) -> None:
        self.source, self.triangles = source, triangles
        self.both_sides, self.filled = both_sides, filled
        self._index = np.empty(size, np.int16)
        self._x = np.arange(size[1], dtype=np.float32)[None, :]
        self._y = np.arange(size[0], dtype=np.float32)[:, None]

    def lookup(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates x and y (H, W) float32 in the source of every pixel, for moved points (V, 2)."""
        corners = points[self.triangles]
        areas = signed_areas(points, self.triangles)
        index = self._rasterised(corners, np.abs(areas) if self.both_sides else areas)
        affine = affines(corners, self.source[self.triangles], areas)
        planes = [np.take(affine[:, k], index) for k in range(6)]
        map_x = planes[0] * self._x + planes[1] * self._y + planes[2]
        map_y = planes[3] * self._x + planes[4] * self._y + planes[5]
        if not self.filled:
            map_x[index < 0] = _NOWHERE
        return map_x, map_y

    def __call__(self, picture: np.ndarray, points: np.ndarray) -> np.ndarray:
        """The picture (H', W', C) after the points have moved to `points` (V, 2): (H, W, C) of its dtype.

        A picture with an opacity must be premultiplied by it: else what is hidden bleeds into the edges.
        """
        border = cv2.BORDER_REPLICATE if self.filled else cv2.BORDER_CONSTANT
        return cv2.remap(picture, *self.lookup(points), cv2.INTER_LINEAR, borderMode=border)

    def _rasterised(self, corners: np.ndarray, areas: np.ndarray) -> np.ndarray:
        """Number of the triangle (H, W) int16 that each pixel shows; -1 where there is none and none is wanted."""
        index = self._index
        drawn = np.flatnonzero(areas > _LEAST_AREA)
        fixed = np.round(corners * 2**_FRACTION).astype(np.int32)
        index.fill(-1)
        for number in drawn.tolist():
            cv2.fillConvexPoly(index, fixed[number], number, cv2.LINE_8, _FRACTION)
        if self.filled and (index < 0).any():  # hairline gaps, and holes
            grown = cv2.dilate(index, np.ones((5, 5), np.uint8))
            np.copyto(index, grown, where=index < 0)
            index[index < 0] = 0
        return index


def affines(moved: np.ndarray, source: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """(T, 6) float32 coefficients that take pixels of the result to those of the source.

    Args:
        moved: (T, 3, 2) corners in the result.
        source: (T, 3, 2) corners in the source.
        areas: (T,) `signed_areas` of the moved ones; a triangle without any gets zeros.
    """
    edge1, edge2 = moved[:, 1] - moved[:, 0], moved[:, 2] - moved[:, 0]
    image1, image2 = source[:, 1] - source[:, 0], source[:, 2] - source[:, 0]
    scale = np.where(np.abs(areas) > 1e-9, 1.0 / np.where(areas == 0, 1, areas), 0)[:, None]
    dx = (image1 * edge2[:, 1:] - image2 * edge1[:, 1:]) * scale
    dy = (image2 * edge1[:, :1] - image1 * edge2[:, :1]) * scale
    offset = source[:, 0] - dx * moved[:, 0, :1] - dy * moved[:, 0, 1:]
    both = np.stack([dx, dy, offset], axis=2)  # (T, 2, 3)
    return both.reshape(-1, 6).astype(np.float32)


def signed_areas(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """(T,) twice the signed area of each triangle of points (V, 2)."""
    a, b, c = (points[triangles[:, i], :2] for i in range(3))
    return (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])


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


def with_edges(points: np.ndarray, triangles: np.ndarray, edges: Iterable[tuple[int, int]]) -> np.ndarray:
    """The same area triangulated so that these edges are among those of the triangles.

    Where an edge is missing, the diagonals that it crosses are flipped until none is left, as in S. Sloan, "A fast
    algorithm for generating constrained Delaunay triangulations", 1993. An edge that runs through a point stays away.

    Args:
        points: (V, 2).
        triangles: (T, 3) positive, without overlaps.
        edges: pairs of point numbers.
    """
    mesh, there = [tuple(triangle) for triangle in triangles.tolist()], edges_of(triangles).tolist()
    for first, last in (edge for edge in edges if sorted(edge) not in there):
        for _ in range(len(mesh)):
            crossing = [pair for pair in _shared(mesh) if _cross(points, first, last, *pair[0])]
            flipped = next((done for pair in crossing if (done := _flipped(points, mesh, *pair[1]))), None)
            if flipped is None:
                break
            mesh = flipped
    return np.array(mesh, np.int64)


def _shared(mesh: Sequence[tuple[int, ...]]) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Edges between two triangles, with the numbers of both."""
    seen: dict[tuple[int, int], int] = {}
    for number, triangle in enumerate(mesh):
        for a, b in zip(triangle, (*triangle[1:], triangle[0]), strict=True):
            if (b, a) in seen:
                yield (a, b), (seen[b, a], number)
            seen[a, b] = number


def _cross(points: np.ndarray, a: int, b: int, c: int, d: int) -> bool:
    """Whether the edges a-b and c-d cross between their ends."""
    sides = signed_areas(points, np.array([[a, b, c], [a, b, d], [c, d, a], [c, d, b]]))
    return len({a, b, c, d}) == 4 and sides[0] * sides[1] < 0 and sides[2] * sides[3] < 0


def _flipped(
    points: np.ndarray, mesh: Sequence[tuple[int, ...]], first: int, second: int
) -> list[tuple[int, ...]] | None:
    """The mesh with the other diagonal of two neighbours; None where they have no other one."""
    own, other = mesh[first], mesh[second]
    tip, far = next(v for v in own if v not in other), next(v for v in other if v not in own)
    place = own.index(tip)
    left, right = own[(place + 1) % 3], own[(place + 2) % 3]
    made = [(tip, left, far), (tip, far, right)]
    if (signed_areas(points, np.array(made)) <= 0).any():
        return None
    flipped = list(mesh)
    flipped[first], flipped[second] = made
    return flipped


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
