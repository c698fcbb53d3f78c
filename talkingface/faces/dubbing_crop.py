"""Where LawDNet and DINet cut a face: frontal (turned and scaled to a template) or upright (a box around the mouth).

Both crops are 1.3 times as high as wide. From the official implementations of LawDNet, arXiv:2409.09326, and of DINet,
arXiv:2303.03988. Landmarks are the 68 points of iBUG, in pixels, as floats: cut to whole pixels they would tremble.
"""

from __future__ import annotations

import zlib

import numpy as np

HEIGHT_TO_WIDTH = 1.3

FITTED = (*range(17, 37), 39, 42, 45, 48, 54)
"""Brows, nose, corners of eyes and mouth: the points that the template has."""

RATIO = 1.6
"""Half the crop's width, per height from the brows (points 19 and 24) to the bridge of the nose (point 29)."""

BLOCK = 9
"""Frames into which DINet cuts a video for training."""

_X = (
    *(0.000213, 0.075262, 0.18113, 0.29077, 0.393397, 0.586856, 0.689483, 0.799124, 0.904991, 0.98004),
    *(0.490127, 0.490127, 0.490127, 0.490127, 0.36688, 0.426036, 0.490127, 0.554217, 0.613373),
    *(0.121737, 0.334606, 0.645647, 0.858516, 0.254149, 0.726104),
)
_Y = (
    *(0.106454, 0.038915, 0.0187482, 0.0344891, 0.0773906, 0.0773906, 0.0344891, 0.0187482, 0.038915, 0.106454),
    *(0.203352, 0.307009, 0.409805, 0.515625, 0.587326, 0.609345, 0.628106, 0.609345, 0.587326),
    *(0.216423, 0.231733, 0.231733, 0.216423, 0.780233, 0.780233),
)
_BROWS, _MARK = (2, 7), 12  # among the fitted points: 19 and 24, and 29
_SCALES = (1.05, 1.15)
_MOST_CHANGE = 1.5
_DOWN = 6.5 / 4  # the centre of the crop, on the way from the brows to the mark


def crop_hw(width: int) -> tuple[int, int]:
    """Height and width of a crop."""
    return int(HEIGHT_TO_WIDTH * width), width


def frontal_template(ratio: float = RATIO) -> np.ndarray:
    """(25, 2) places of `FITTED`, the centre of the crop at 0 and half its width as unit."""
    points = np.stack([_X, _Y], axis=1)
    brows, mark = points[list(_BROWS)].mean(axis=0), points[_MARK]
    centre = np.array([mark[0], brows[1] + (mark[1] - brows[1]) * _DOWN])
    return (points - centre) / (ratio * (mark - brows)[1])


def frontal_matrices(landmarks: np.ndarray, width: int, ratio: float = RATIO) -> np.ndarray:
    """Similarities that bring faces closest to the template.

    Args:
        landmarks: (F, 68, 2) pixels; NaN where there is no face.
        width: of the crop.
        ratio: see `RATIO`; a larger one shows more around the face.

    Returns:
        (F, 2, 3) from frame to crop, float64.
    """
    middle = np.array([width, HEIGHT_TO_WIDTH * width]) / 2
    template = frontal_template(ratio) * (width / 2) + middle
    return fit_similarity(np.asarray(landmarks, np.float64)[:, list(FITTED)], template)


def fit_similarity(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The turns, scales and shifts (F, 2, 3) that bring points (F, K, 2) closest to targets (K, 2), by least squares.

    All points of a face in one place: NaN.
    """
    # As complex numbers a turn with a scale is one factor.
    own, wanted = (x[..., 0] + 1j * x[..., 1] for x in (points, targets))
    own_mean, wanted_mean = own.mean(axis=-1), wanted.mean(axis=-1)
    centred = own - own_mean[:, None]
    spread = np.square(np.abs(centred)).sum(axis=-1)
    product = (centred.conj() * (wanted - wanted_mean)).sum(axis=-1)
    factor = np.divide(product, spread, out=np.full_like(product, complex(np.nan, np.nan)), where=spread > 0)
    shift = wanted_mean - factor * own_mean
    rows = [[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]]
    return np.moveaxis(np.array(rows), -1, 0)


def upright_matrices(landmarks: np.ndarray, width: int, scale: float = 1.05) -> np.ndarray:
    """Boxes around nose and mouth, of one size for the whole clip, as matrices.

    Args:
        landmarks: (F, 68, 2) pixels of a clip; NaN where there is no face.
        width: of the crop.
        scale: of the box.

    Returns:
        (F, 2, 3) from frame to crop, float64.
    """
    points = np.asarray(landmarks, np.float64)
    return _box_matrices(points, np.full(len(points), float(upright_radius(points, scale))), width)


def block_matrices(landmarks: np.ndarray, width: int, frame_hw: tuple[int, int]) -> np.ndarray:
    """The same as published for training: every 9 frames another size and scale.

    Args:
        landmarks: (F, 68, 2) pixels of a clip; NaN where there is no face.
        width: of the crop.
        frame_hw: height and width of the frames.

    Returns:
        (F, 2, 3) from frame to crop, float64; NaN in blocks in which a box leaves the frame, or the face changes size
        by more than half.
    """
    points, (height, side) = np.asarray(landmarks, np.float64), frame_hw
    # The scales of a clip follow from its landmarks: made again, crops are the same.
    rng = np.random.default_rng(zlib.crc32(np.nan_to_num(points).astype("<f8").tobytes()))
    radii = np.full(len(points), np.nan)
    for first in range(0, len(points), BLOCK):
        block = points[first : first + BLOCK]
        needed = _radii(block, rng.uniform(*_SCALES))
        needed = needed[np.isfinite(needed)]
        if not len(needed) or needed.max() > _MOST_CHANGE * needed.min():
            continue
        radius = _whole_radius(needed)
        x, y = block[:, 33, 0], block[:, 29, 1]
        ends = np.stack([x - 1.25 * radius, y - radius, side - x - 1.25 * radius, height - y - 2.25 * radius])
        if not (ends < 0).any():  # NaN, no face, is not smaller either
            radii[first : first + BLOCK] = radius
    return _box_matrices(points, radii, width)


def _box_matrices(points: np.ndarray, radii: np.ndarray, width: int) -> np.ndarray:
    """Matrices (F, 2, 3) of boxes whose mouths have half sides (F,), NaN where there is none."""
    sides = 2 * radii * 1.25
    factor = width / sides
    left, top = points[:, 33, 0] - sides / 2, points[:, 29, 1] - sides / 2.5
    matrices = np.zeros((len(points), 2, 3))
    matrices[:, 0, 0] = matrices[:, 1, 1] = factor
    # Boxes are given by their edges, matrices by centres of pixels: half a pixel between them.
    matrices[:, 0, 2] = (0.5 - left) * factor - 0.5
    matrices[:, 1, 2] = (0.5 - top) * factor - 0.5
    return matrices


def upright_radius(landmarks: np.ndarray, scale: float = 1.05) -> int:
    """Half the side of the mouth in pixels, a multiple of 4, for the frame of a clip (F, 68, 2) that needs most.

    Raises:
        ValueError: no frame has a face.
    """
    radii = _radii(landmarks, scale)
    if not np.isfinite(radii).any():
        raise ValueError("no frame has landmarks")
    return _whole_radius(radii)


def _radii(landmarks: np.ndarray, scale: float) -> np.ndarray:
    """Half the side of the mouth that each frame needs, (F,); NaN where there is no face."""
    heights = (landmarks[..., 1].max(axis=-1) - landmarks[:, 29, 1]) * scale
    # Mirrored or failed landmarks have their corners of the mouth the other way round.
    widths = np.abs(landmarks[:, 54, 0] - landmarks[:, 48, 0]) * scale
    return np.maximum(heights, widths) // 2


def _whole_radius(radii: np.ndarray) -> int:
    return (int(np.nanmax(radii) / 4) + 1) * 4
