"""Sketches: landmarks drawn as lines. IPLAP's renderer reads thin ones of the pose, HyperLips' decoder those of a face.

Drawn from landmarks on demand (about 0.1 ms each); storing them would take more space than the faces.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np

from talkingface.faces.mesh import IPLAP_EDGES, IPLAP_ORDER

COLOUR = 224  # grey level of the lines, official implementation
CLOSE_TO_ONE = 1 + 1e-9  # a coordinate may exceed 1 by rounding alone

_POSITION = {point: position for position, point in enumerate(IPLAP_ORDER)}
EDGES = np.array([[_POSITION[a], _POSITION[b]] for a, b in IPLAP_EDGES], dtype=np.int64)  # (125, 2) into the 131 points


def canvas_size(height: float, width: float, size: int) -> tuple[int, int]:
    """Height and width of the canvas whose shorter side is `size` and whose shape is that of the face crop."""
    short = min(height, width)
    return tuple(size if side == short else int(side * size / short) for side in (height, width))


def sketch_canvas(landmarks: np.ndarray, height: float, width: float, size: int = 128) -> np.ndarray:
    """Draw one landmark set in the shape of its crop.

    Kept: an edge with one end outside the crop vanishes entirely; the networks were trained on such sketches.

    Args:
        landmarks: (2, 131) in network order, row 0 = x, row 1 = y, relative to the crop.
        height: height of the crop in pixels, whole or not.
        width: width of the crop in pixels.
        size: length of the canvas's shorter side.

    Returns:
        uint8 canvas, 0 or 224; 1-pixel lines, 8-connected, not smoothed.
    """
    canvas = np.zeros(canvas_size(height, width, size), np.uint8)
    points = np.asarray(landmarks, np.float64).T
    usable = ((points >= 0) & (points <= CLOSE_TO_ONE)).all(axis=1)
    limits = np.array([canvas.shape[1], canvas.shape[0]])
    # Truncated to whole pixels, as published; unusable points become 0 only so that the cast is defined.
    pixels = np.minimum(np.where(usable[:, None], points, 0) * limits, limits - 1).astype(np.int32)
    drawn = EDGES[usable[EDGES].all(axis=1)]
    if len(drawn):
        cv2.polylines(canvas, pixels[drawn], isClosed=False, color=COLOUR)
    return canvas


def draw_sketch(landmarks: np.ndarray, height: float, width: float, size: int = 128) -> np.ndarray:
    """One sketch as the official inference sees it: float64 (size, size), 0 to 224, not rounded after resizing."""
    canvas = sketch_canvas(landmarks, height, width, size).astype(np.float64)
    # The crop is no square: lines are drawn in its shape and squeezed with it, and so become grey.
    return canvas if canvas.shape == (size, size) else cv2.resize(canvas, (size, size))


def draw_sketches(
    landmarks: np.ndarray, heights_widths: np.ndarray | Sequence[float], size: int = 128, rounded: bool = False
) -> np.ndarray:
    """Draw many sketches.

    Args:
        landmarks: (F, 2, 131), see `sketch_canvas`.
        heights_widths: (F, 2) height and width of each crop in pixels, or one pair for all.
        size: side of the sketches.
        rounded: round to whole grey levels, as in sketches read back from PNG files.

    Returns:
        (F, size, size) float32 in [0, 1].
    """
    landmarks = np.asarray(landmarks)
    shapes = np.broadcast_to(np.asarray(heights_widths, np.float64), (len(landmarks), 2))
    sketches = np.empty((len(landmarks), size, size), np.float32)
    for out, points, (height, width) in zip(sketches, landmarks, shapes):
        values = draw_sketch(points, height, width, size)
        out[:] = np.rint(values) / 255 if rounded else values / 255
    return sketches


Style = Literal["unified", "upstream_train", "upstream_infer"]
_OF_128 = {"unified": 2, "upstream_infer": 6}  # pixels of a line on a canvas of 128
ON_CROP = 6  # pixels of a line at the crop's own resolution, as published for training


def face_sketch(points: np.ndarray, size: int, style: Style = "unified", crop_side: float = 128) -> np.ndarray:
    """The lines of a face as HyperLips' decoder sees them, the same function for training and use.

    An edge with one end outside the crop vanishes entirely.

    Args:
        points: (478, 2) mesh points relative to the crop, 0 to 1.
        size: side of the sketch.
        style: `unified`: 2 px of 128, for thicker lines close the mouth opening that they should show;
            `upstream_train`: 6 px at the crop's own resolution, resized, blurred, and whatever is not black made
            white, as published for training; `upstream_infer`: 6 px of 128, as published for use.
        crop_side: side of the crop in pixels of the frame, for `upstream_train`.

    Returns:
        (size, size) uint8, 0 or 255.
    """
    if style != "upstream_train":
        return white_lines(points, size, max(1, round(_OF_128[style] * size / 128)))
    drawn = white_lines(points, max(1, round(crop_side)), ON_CROP)
    blurred = cv2.GaussianBlur(cv2.resize(drawn, (size, size)), (5, 5), 0)
    return np.where(blurred > 0, 255, 0).astype(np.uint8)


def white_lines(points: np.ndarray, side: int, thickness: int) -> np.ndarray:
    """The same lines (side, side) uint8, 0 or 255, `thickness` pixels wide, as they are drawn."""
    canvas = np.zeros((side, side), np.uint8)
    inside = ((points >= 0) & (points <= CLOSE_TO_ONE)).all(axis=1)
    pixels = np.minimum(np.floor(np.where(inside[:, None], points, 0) * side), side - 1).astype(np.int32)
    edges = IPLAP_EDGES[inside[IPLAP_EDGES].all(axis=1)]
    if len(edges):
        cv2.polylines(canvas, pixels[edges], isClosed=False, color=255, thickness=thickness)
    return canvas
