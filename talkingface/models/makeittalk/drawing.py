"""Landmarks drawn as coloured lines on white: what the image translation is told. One function for training and use.

Official implementation of MakeItTalk. Only OpenCV: data workers draw as well.
"""

from __future__ import annotations

import cv2
import numpy as np

from talkingface.faces.ibug68 import CURVES

SIDE = 256
"""Pixels of the picture in which lines are drawn; smaller ones are its averages."""

THICKNESS = 2
_JAW, _BROWS, _NOSE, _EYES, _LIPS = (255, 144, 25), (50, 205, 50), (208, 224, 63), (71, 99, 255), (238, 130, 238)

Lines = tuple[tuple[range, bool, tuple[int, int, int]], ...]
"""Points of a line, whether it is closed, and its colour, BGR."""


def _curves(*parts: tuple[tuple[int, int, bool], ...]) -> Lines:
    """Lines of jaw, brows, nose, eyes and lips, each as (first point, end, closed)."""
    colours = (_JAW, _BROWS, _NOSE, _EYES, _LIPS)
    return tuple(
        (range(first, end), closed, colour)
        for part, colour in zip(parts, colours, strict=True)
        for first, end, closed in part
    )


_OF_CURVE = (_JAW, _BROWS, _BROWS, _NOSE, _EYES, _EYES, _LIPS, _LIPS)

LINES: dict[int, Lines] = {
    68: tuple((points, closed, colour) for (points, closed), colour in zip(CURVES, _OF_CURVE, strict=True)),
    # Jaw and brows as above, then WFLW's nose, eyes and lips; and WFLW alone. The published weights were trained on
    # these, and are driven by 68 points.
    74: _curves(
        ((0, 17, False),),
        ((17, 22, False), (22, 27, False)),
        ((27, 36, False),),
        ((36, 44, True), (44, 52, True)),
        ((52, 64, True), (64, 72, True)),
    ),
    98: _curves(
        ((0, 33, False),),
        ((33, 42, True), (42, 51, True)),
        ((51, 60, False),),
        ((60, 68, True), (68, 76, True)),
        ((76, 88, True), (88, 96, True)),
    ),
}
"""Lines by the number of points, in the order in which they are drawn."""


def draw_landmarks(points: np.ndarray, size: int = SIDE) -> np.ndarray:
    """Draw one face.

    Args:
        points: (68, 74 or 98, 2 or more), x and y in pixels of a picture of 256; may lie outside.
        size: side of the result; 256 is drawn, smaller ones are averaged: thin lines of their own would be lost, thick
            ones would close the mouth.

    Returns:
        (size, size, 3) uint8, **BGR** as the published weights know it, lines two pixels thick and not smoothed.

    Raises:
        ValueError: another number of points, or a side that is larger than 256.
    """
    if len(points) not in LINES:
        raise ValueError(f"a face of {len(points)} points has no lines; known: {', '.join(map(str, LINES))}")
    if not 0 < size <= SIDE:
        raise ValueError(f"drawings have at most {SIDE} pixels a side, got {size}")
    canvas = np.full((SIDE, SIDE, 3), 255, np.uint8)
    # Cut off towards zero, as published; far outside the numbers would no longer fit OpenCV.
    pixels = np.clip(np.asarray(points)[:, :2], -(2**14), 2**14).astype(np.int32)
    for line, closed, colour in LINES[len(points)]:
        cv2.polylines(canvas, [pixels[list(line)]], closed, colour, THICKNESS)
    return canvas if size == SIDE else cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
