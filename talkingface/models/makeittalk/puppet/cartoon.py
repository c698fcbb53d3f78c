"""A cartoon head of our own, drawn from the canonical face: a puppet that nobody has to bring along."""

from __future__ import annotations

import cv2
import numpy as np

from talkingface.faces.ibug68 import INNER_LIPS, JAW, LEFT_BROW, LEFT_EYE, OUTER_LIPS, RIGHT_BROW, RIGHT_EYE
from talkingface.models.makeittalk.canonical import canonical_face

_FINER = 4  # times that it is drawn larger, and averaged: smooth edges, also of the opacity
_LOWER = (55, 56, 57, 58, 59, 65, 66, 67)
_CHIN = (5, 6, 7, 8, 9, 10, 11)
_SKIN, _SHADE, _INK, _HAIR = (255, 214, 170), (236, 178, 132), (40, 30, 30), (120, 62, 34)
_WHITE, _IRIS, _LIP, _DARK = (255, 255, 255), (60, 110, 190), (206, 84, 92), (70, 18, 24)


def draw_cartoon(size: tuple[int, int] = (512, 512), mouth: float = 0.12) -> tuple[np.ndarray, np.ndarray]:
    """A head on nothing.

    Args:
        size: height and width.
        mouth: by how much the mouth is open, in eye distances.

    Returns:
        (H, W, 4) uint8 RGBA, colours not premultiplied, and the landmarks (68, 2) in pixels.
    """
    points = _landmarks(size, mouth)
    drawing = _Drawing(size, points)
    drawing.head()
    drawing.eyes()
    drawing.mouth()
    return drawing.finished(), points


def _landmarks(size: tuple[int, int], mouth: float) -> np.ndarray:
    face = canonical_face()[:, :2].copy()
    face[list(_LOWER), 1] += mouth
    face[list(_CHIN), 1] += mouth / 2
    face[RIGHT_BROW, 1] -= 0.06
    face[LEFT_BROW, 1] -= 0.06
    for eye in (RIGHT_EYE, LEFT_EYE):
        middle = face[eye].mean(axis=0)
        face[eye] = middle + [1.2, 2.0] * (face[eye] - middle)
    height, width = size
    return face * 0.36 * min(size) + [width / 2, 0.5 * height]


class _Drawing:
    """A canvas that is larger than the picture, and what is opaque of it."""

    def __init__(self, size: tuple[int, int], points: np.ndarray) -> None:
        self.size = size
        self.points = (points + 0.5) * _FINER - 0.5
        self.unit = float(np.linalg.norm(self.points[45] - self.points[36]))
        shape = (size[0] * _FINER, size[1] * _FINER)
        self.colour, self.opacity = np.zeros((*shape, 3), np.uint8), np.zeros(shape, np.uint8)

    def head(self) -> None:
        """Hair, ears, face and nose."""
        jaw, top = self.points[JAW], self.points[[0, 16]].mean(axis=0)
        half = np.linalg.norm(jaw[16] - jaw[0]) / 2
        turns = np.linspace(0, np.pi, 40)
        forehead = top + np.stack([half * np.cos(turns), -0.95 * half * np.sin(turns)], axis=1)
        self._blob(top - [0, 0.25 * half], 1.12 * half, 1.1 * half, _HAIR)
        for end, side in ((jaw[0], -1), (jaw[16], 1)):
            self._blob(end + [0.06 * side * half, 0.12 * half], 0.2 * half, 0.3 * half, _SKIN)
        self._area(np.concatenate([jaw, forehead]), _SKIN)
        self._line(self.points[[29, 30, 33]], _SHADE, 0.035)
        self._line(self.points[31:36], _SHADE, 0.035)
        for brow in (RIGHT_BROW, LEFT_BROW):
            self._line(self.points[brow], _HAIR, 0.06)

    def eyes(self) -> None:
        """White, iris and pupil inside the lids."""
        for eye in (RIGHT_EYE, LEFT_EYE):
            lids = self.points[eye]
            inside = np.zeros_like(self.opacity)
            cv2.fillPoly(inside, [np.rint(lids).astype(np.int32)], 255)
            layer, middle = np.full_like(self.colour, _WHITE), np.rint(lids.mean(axis=0)).astype(int).tolist()
            for radius, colour in ((0.09, _IRIS), (0.04, _INK)):
                cv2.circle(layer, middle, round(radius * self.unit), colour, -1)
            self.colour[inside > 0] = layer[inside > 0]
            self._line(np.concatenate([lids, lids[:1]]), _INK, 0.02)

    def mouth(self) -> None:
        """Lips, and teeth in the dark between them."""
        outer, inner = self.points[OUTER_LIPS], self.points[INNER_LIPS]
        self._area(outer, _LIP)
        inside = np.zeros_like(self.opacity)
        cv2.fillPoly(inside, [np.rint(inner).astype(np.int32)], 255)
        self.colour[inside > 0] = _DARK
        teeth = np.concatenate([inner[:5], inner[4::-1] + [0, 0.4 * (inner[6, 1] - inner[2, 1])]])
        layer = np.zeros_like(self.opacity)
        cv2.fillPoly(layer, [np.rint(teeth).astype(np.int32)], 255)
        self.colour[(layer > 0) & (inside > 0)] = _WHITE

    def finished(self) -> np.ndarray:
        """(H, W, 4) uint8 RGBA."""
        seen = self.opacity[..., None].astype(np.float32) / 255
        mean = [cv2.resize(x, self.size[::-1], interpolation=cv2.INTER_AREA) for x in (self.colour * seen, seen)]
        colour = mean[0] / np.maximum(mean[1], 1e-6)[..., None]
        return np.rint(np.dstack([colour, 255 * mean[1]])).clip(0, 255).astype(np.uint8)

    def _area(self, outline: np.ndarray, colour: tuple[int, int, int]) -> None:
        whole = [np.rint(outline).astype(np.int32)]
        cv2.fillPoly(self.colour, whole, colour)
        cv2.fillPoly(self.opacity, whole, 255)
        self._line(np.concatenate([outline, outline[:1]]), _INK, 0.02)

    def _blob(self, centre: np.ndarray, across: float, along: float, colour: tuple[int, int, int]) -> None:
        turns = np.linspace(0, 2 * np.pi, 60, endpoint=False)
        self._area(centre + np.stack([across * np.cos(turns), along * np.sin(turns)], axis=1), colour)

    def _line(self, points: np.ndarray, colour: tuple[int, int, int], width: float) -> None:
        """A line as wide as a share of the eye distance."""
        thick, places = max(1, round(width * self.unit)), [np.rint(points).astype(np.int32)]
        cv2.polylines(self.colour, places, False, colour, thick)
        cv2.polylines(self.opacity, places, False, 255, thick)
