"""Crops that a matrix describes, and the way back: turned and scaled faces, cut out of frames and pasted again.

A matrix (2, 3) maps pixels of the frame to pixels of the crop, x before y, whole numbers being the centres of pixels.
Nothing here detects faces or knows what a crop is for.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

from talkingface.errors import DataError

SizeHW = tuple[int, int]

_MOST_SAMPLES = 8
"""Per axis and pixel, where a picture shrinks."""


def inverse(matrix: np.ndarray) -> np.ndarray:
    """The way back of a matrix (2, 3), in float64."""
    return np.linalg.inv(_square(matrix))[:2]


def mapped(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Points (..., 2) moved by matrices (2, 3), or (F, 2, 3) for points (F, K, 2)."""
    return points @ np.swapaxes(matrix[..., :2], -1, -2) + matrix[..., None, :, 2]


def frame_boxes(matrices: np.ndarray, size_hw: SizeHW, frame_hw: SizeHW) -> np.ndarray:
    """Boxes around what crops show, inside the frame.

    Args:
        matrices: (F, 2, 3) from frame to crop; NaN where there is no face.
        size_hw: height and width of the crops.
        frame_hw: of the frames.

    Returns:
        (F, 4) float32 x1, y1, x2, y2 in pixels; NaN where the matrices are NaN.
    """
    boxes = np.full((len(matrices), 4), np.nan, np.float32)
    height, width = size_hw
    # Edges of pixels lie half a pixel beside their centres, in which matrices count.
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]], np.float64) - 0.5
    for box, matrix in zip(boxes, matrices):
        if np.isfinite(matrix).all():
            places = mapped(corners, inverse(matrix)) + 0.5
            box[:] = np.clip([*places.min(axis=0), *places.max(axis=0)], 0, [*frame_hw[::-1]] * 2)
    return boxes


def crop_by_matrix(frame: np.ndarray, matrix: np.ndarray, size_hw: SizeHW, half_pixel: bool = False) -> np.ndarray:
    """Cut a crop out of a frame, black beyond its borders.

    Where the crop is smaller than what it shows, each of its pixels is a mean over the area behind it.

    Args:
        frame: (H, W, 3) uint8, or float in [0, 255].
        matrix: (2, 3) from frame to crop.
        size_hw: height and width of the crop.
        half_pixel: sample as LawDNet's published code does, whose two conventions for the borders of a picture
            disagree: up to half a pixel beside the place, and one sample per pixel however much the face shrinks.

    Returns:
        (h, w, 3) of the type of `frame`.

    Raises:
        DataError: the matrix is not finite (a frame without a face).
    """
    if not np.isfinite(matrix).all():
        raise DataError("a frame without a face has no crop; skip such frames")
    back = inverse(matrix)
    if half_pixel:
        back = _published(back, size_hw, frame.shape[:2])
    return _typed(_sampled(frame, back, size_hw, samples=1 if half_pixel else None), frame.dtype)


def paste_by_matrix(
    frame: np.ndarray, face: np.ndarray, matrix: np.ndarray, weights: np.ndarray, rounds: int = 0
) -> np.ndarray:
    """Put a crop back where `crop_by_matrix` took it from: every pixel of the frame asks the crop, so none is missed.

    Args:
        frame: (H, W, 3) uint8; it is not changed.
        face: (h, w, 3) uint8, or float in [0, 255].
        matrix: (2, 3) from frame to crop.
        weights: (h, w) in [0, 1], of the face.
        rounds: how often what was pasted is cut out again, and what that crop lacks of the face is added. Sampling
            blurs, on both ways; so the new frame comes to hold what a crop of it must show.

    Returns:
        A new frame, equal to the old one where the weights are 0 and outside the crop.
    """
    pasted = frame.copy()
    top, bottom, left, right = _window(inverse(matrix), face.shape[:2], frame.shape[:2])
    if bottom <= top or right <= left:
        return pasted
    there, size = _moved(matrix, left, top), (bottom - top, right - left)
    # The face goes on beyond its border, its weight does not: nothing black is mixed in at the edge.
    patch = _sampled(face, there, size, "border")
    for _ in range(rounds):
        patch += _sampled(face - _sampled(patch, inverse(there), face.shape[:2], "border"), there, size, "border")
    share = _sampled(np.asarray(weights, np.float32)[..., None], there, size)
    part = pasted[top:bottom, left:right]
    part[:] = _typed(part + share * (patch - part), frame.dtype)
    return pasted


def paste_scattered(frame: np.ndarray, face: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Put a crop back as LawDNet's published code does: every pixel of the crop goes to one of the frame.

    Where the frame shows the face larger than the crop, holes remain between them. Pixels beyond the frame are left
    out.

    Args:
        frame: (H, W, 3); it is not changed.
        face: (h, w, 3).
        matrix: (2, 3) from frame to crop.
    """
    height, width = face.shape[:2]
    own = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).reshape(-1, 2)
    columns, rows = np.trunc(mapped(own.astype(np.float64), inverse(matrix))).astype(np.int64).T
    inside = (columns >= 0) & (columns < frame.shape[1]) & (rows >= 0) & (rows < frame.shape[0])
    pasted = frame.copy()
    pasted[rows[inside], columns[inside]] = face.reshape(-1, face.shape[-1])[inside]
    return pasted


def _square(matrix: np.ndarray) -> np.ndarray:
    return np.vstack([np.asarray(matrix, np.float64)[:2], [0.0, 0.0, 1.0]])


def _published(back: np.ndarray, crop_hw: SizeHW, frame_hw: SizeHW) -> np.ndarray:
    """The places that the published code samples instead of those of `back`, crop to frame.

    It reads both pictures as reaching from the centre of the first pixel to that of the last one, and samples them as
    reaching from edge to edge.
    """
    crop = np.eye(3)
    frame = np.eye(3)
    for axis, (own, whole) in enumerate(zip(crop_hw[::-1], frame_hw[::-1])):
        crop[axis, axis], crop[axis, 2] = (own - 1) / own, 0.5 * (own - 1) / own
        frame[axis, axis], frame[axis, 2] = whole / (whole - 1), -0.5
    return (frame @ _square(back) @ crop)[:2]


def _moved(matrix: np.ndarray, left: int, top: int) -> np.ndarray:
    """The matrix for a picture that begins at (left, top) of the one it is for."""
    moved = np.array(matrix, np.float64)[:2]
    moved[:, 2] += moved[:, :2] @ [left, top]
    return moved


def _window(back: np.ndarray, crop_hw: SizeHW, frame_hw: SizeHW) -> tuple[int, int, int, int]:
    """Rows and columns of a frame that a crop reaches, as top, bottom, left, right."""
    height, width = crop_hw
    corners = np.array([[-1, -1], [width, -1], [-1, height], [width, height]], np.float64)
    places = mapped(corners, back)
    low, high = np.floor(places.min(axis=0)).astype(int), np.ceil(places.max(axis=0)).astype(int) + 1
    (left, top), (right, bottom) = np.clip([low, high], 0, frame_hw[::-1])
    return int(top), int(bottom), int(left), int(right)


def _sampled(
    picture: np.ndarray, places: np.ndarray, size_hw: SizeHW, beyond: str = "zeros", samples: int | None = None
) -> np.ndarray:
    """Bilinear samples (h, w, C) float32 of a picture at the places that a matrix gives for each pixel.

    Args:
        picture: (H, W, C).
        places: (2, 3) from pixels of the result to pixels of the picture.
        size_hw: of the result.
        beyond: what lies outside the picture, `zeros` or its `border`.
        samples: per axis and pixel; None: as many as the picture shrinks.
    """
    if samples is None:
        shrunk = max(np.linalg.norm(places[:, :2], axis=0))
        samples = min(_MOST_SAMPLES, max(1, math.ceil(shrunk - 0.01)))
    rows, columns = ((np.arange(side * samples) + 0.5) / samples - 0.5 for side in size_hw)
    x, y = (row[0] * columns + row[1] * rows[:, None] + row[2] for row in places)
    part, left, top = _needed(picture, x, y)
    height, width = part.shape[:2]
    field = np.stack([(2 * (x - left) + 1) / width - 1, (2 * (y - top) + 1) / height - 1], axis=-1)
    source = torch.from_numpy(np.ascontiguousarray(part)).float().permute(2, 0, 1)[None]
    found = F.grid_sample(
        source, torch.from_numpy(field).float()[None], mode="bilinear", padding_mode=beyond, align_corners=False
    )
    return F.avg_pool2d(found, samples)[0].permute(1, 2, 0).numpy()


def _needed(picture: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, int, int]:
    """The part of a picture that samples at x and y read, and its left and top; frames are larger than faces."""
    (left, right), (top, bottom) = (
        (min(max(0, math.floor(places.min()) - 1), side - 1), max(1, min(side, math.ceil(places.max()) + 2)))
        for places, side in ((x, picture.shape[1]), (y, picture.shape[0]))
    )
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    return picture[top:bottom, left:right], left, top


def _typed(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Values in [0, 255] as the given type; whole numbers are rounded."""
    if not np.issubdtype(dtype, np.integer):
        return values.astype(dtype)
    return np.clip(np.rint(values), 0, 255).astype(dtype)
