"""A mesh over the head of a portrait, and the picture that follows when its landmarks move.

The 68 points, the forehead, and rings around the head that follow its rigid motion the less the farther out they lie:
from 1.2 heights of the face around its centre on nothing moves.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from scipy.spatial import Delaunay

from talkingface.faces.affine import mapped
from talkingface.faces.dubbing_crop import fit_similarity
from talkingface.faces.ibug68 import INNER_LIPS, OUTER_LIPS, mouth_openings
from talkingface.faces.warp import TriangleWarp
from talkingface.models.makeittalk.canonical import canonical_face
from talkingface.models.makeittalk.clip_faces import face_centre, face_height

STABLE = (0, 1, 15, 16, *range(17, 48))
"""Points that speech hardly moves: jaw ends, brows, nose, eyes."""

REACH = 1.2
"""Heights of the face around its centre from which on nothing moves."""

_RINGS = ((0.75, 1.0), (0.87, 0.8), (0.99, 0.45), (1.1, 0.12), (REACH, 0.0))  # radius, share of the head's motion
_SPOKES = 24
_FOREHEAD = 9  # points from temple to temple
_DARK = 0.25  # of the colour of the lips
_OPENED = 0.06  # eye distances: so far the mouth is open where the triangles are chosen
_LOWER_LIPS = (55, 56, 57, 58, 59, 65, 66, 67)


class HeadMesh:
    """The mesh on one portrait.

    Args:
        points: (68, 2) landmarks of the portrait in pixels.
    """

    def __init__(self, points: np.ndarray) -> None:
        self.points = np.asarray(points, np.float64)[:, :2]
        self.around = _around(self.points)
        self.source = np.concatenate([self.points, self.around])

    @property
    def triangles(self) -> np.ndarray:
        """(T, 3): the same for every face, so that a closed mouth opens between its lips and nowhere else."""
        return _topology().triangles

    def rigid(self, moved: np.ndarray) -> np.ndarray:
        """The similarity (2, 3) by which the head as a whole went to landmarks (68, 2)."""
        chosen = list(STABLE)
        return fit_similarity(self.points[None, chosen], np.asarray(moved, np.float64)[chosen, :2])[0]

    def vertices(self, moved: np.ndarray, matrix: np.ndarray | None = None) -> np.ndarray:
        """All points (V, 2) when the landmarks are at `moved` (68, 2).

        Args:
            moved: landmarks.
            matrix: rigid motion of the head; None: see `rigid`.
        """
        matrix = self.rigid(moved) if matrix is None else matrix
        shares = _topology().shares[:, None]
        around = self.around + shares * (mapped(self.around, matrix) - self.around)
        return np.concatenate([np.asarray(moved, np.float64)[:, :2], around])

    def carried(self, moved: np.ndarray) -> np.ndarray:
        """The landmarks (68, 2) if the head alone had moved."""
        return mapped(self.points, self.rigid(moved))

    def move(self, picture: np.ndarray, moved: np.ndarray) -> np.ndarray:
        """The picture (H, W, C) uint8 after its landmarks have moved; what lies beyond the rings is untouched."""
        return self.onto(picture, picture, self.vertices(moved))

    def onto(self, picture: np.ndarray, canvas: np.ndarray, vertices: np.ndarray) -> np.ndarray:
        """A copy of `canvas` with the mesh of `picture` drawn on it at vertices (V, 2)."""
        height, width = canvas.shape[:2]
        low = np.clip(np.floor(vertices.min(axis=0)).astype(int) - 1, 0, [width, height])
        high = np.clip(np.ceil(vertices.max(axis=0)).astype(int) + 2, 0, [width, height])
        result = canvas.copy()
        if (high <= low).any():
            return result
        (left, top), (right, bottom) = low, high
        warp = TriangleWarp(self.source, self.triangles, (bottom - top, right - left), filled=False)
        map_x, map_y = warp.lookup(vertices - low)
        drawn = map_x > -(2.0**13)
        found = cv2.remap(picture, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        part = result[top:bottom, left:right]
        part[drawn] = found[drawn]
        return result


def inside_mask(points: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """(H, W) uint8, 255 between the inner lips of a face (68, 2), smooth along its edge."""
    mask = np.zeros(size_hw, np.uint8)
    lips = np.round(np.asarray(points)[INNER_LIPS, :2] * 16).clip(-(2**18), 2**18).astype(np.int32)
    cv2.fillPoly(mask, [lips], 255, cv2.LINE_AA, 4)
    return mask


def darken(picture: np.ndarray, points: np.ndarray, resting: np.ndarray, lips: np.ndarray) -> None:
    """Darken the mouth of a moved portrait, in place, where it opens wider than the portrait's.

    Args:
        picture: (H, W, 3) uint8.
        points: (68, 2) its landmarks.
        resting: (68, 2) landmarks of the portrait: what is between its lips is known, the more the wider they are open.
        lips: (3,) their colour, see `lip_colour`.
    """
    opened, known = (float(mouth_openings(face)) for face in (points, resting))
    share = 1 - min(1.0, known / max(opened, 1e-9))
    if share <= 0:
        return
    window = _around_lips(points, picture.shape[:2])
    corner = np.array([window[1].start, window[0].start])
    part = picture[window]
    if not part.size:
        return
    mask = inside_mask(np.asarray(points)[:, :2] - corner, part.shape[:2])
    if not mask.any():
        return
    soft = cv2.GaussianBlur(mask, (0, 0), max(0.3, 0.01 * face_height(points))).astype(np.float32)[..., None] / 255
    weight = share * np.minimum(soft, mask[..., None] / 255)
    picture[window] = np.rint(part * (1 - weight) + _DARK * lips * weight).astype(np.uint8)


def _around_lips(points: np.ndarray, size_hw: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of a picture around the inner lips, with room for a soft edge."""
    lips = np.asarray(points)[INNER_LIPS, :2]
    room = 2 + 0.05 * face_height(points)
    low = np.clip(np.floor(lips.min(axis=0) - room).astype(int), 0, size_hw[::-1])
    high = np.clip(np.ceil(lips.max(axis=0) + room).astype(int) + 1, 0, size_hw[::-1])
    return slice(low[1], high[1]), slice(low[0], high[0])


def lip_colour(portrait: np.ndarray, resting: np.ndarray) -> np.ndarray:
    """Mean colour (3,) of the lips of a portrait (H, W, 3) uint8 with landmarks (68, 2)."""
    outline = np.zeros(portrait.shape[:2], np.uint8)
    cv2.fillPoly(outline, [np.round(resting[OUTER_LIPS]).astype(np.int32)], 255)
    return np.array(cv2.mean(portrait, outline)[:3])


class _Topology(NamedTuple):
    triangles: np.ndarray
    shares: np.ndarray


@lru_cache(maxsize=1)
def _topology() -> _Topology:
    """Triangles of the canonical face with its mouth a little open, and the shares of the points around it."""
    face = canonical_face()[:, :2].copy()
    face[list(_LOWER_LIPS), 1] += _OPENED
    around = _around(face)
    triangles = Delaunay(np.concatenate([face, around])).simplices.astype(np.int64)
    corners = np.concatenate([face, around])[triangles]
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    turned = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0] < 0
    triangles[turned] = triangles[turned][:, ::-1]
    shares = np.concatenate([np.ones(_FOREHEAD), *(np.full(_SPOKES, share) for _, share in _RINGS)])
    return _Topology(triangles, shares)


def _around(face: np.ndarray) -> np.ndarray:
    """Forehead and rings (V - 68, 2) of a face (68, 2)."""
    height, centre = face_height(face), face_centre(face)
    brow = face[17:27].mean(axis=0)
    up = (brow - face[8]) / max(np.linalg.norm(brow - face[8]), 1e-9)
    across = np.array([-up[1], up[0]])
    angles = np.linspace(np.pi * 0.1, np.pi * 0.9, _FOREHEAD)
    half = np.linalg.norm(face[16] - face[0]) / 2
    temples = (face[0] + face[16]) / 2
    rise = np.linalg.norm(brow - temples) + 0.2 * height
    forehead = temples + half * np.cos(angles)[:, None] * across + rise * np.sin(angles)[:, None] * up
    turns = np.arange(_SPOKES) * 2 * np.pi / _SPOKES
    circle = np.cos(turns)[:, None] * across + np.sin(turns)[:, None] * up
    return np.concatenate([forehead, *(centre + radius * height * circle for radius, _ in _RINGS)])
