"""Point indices of MediaPipe's face mesh (478 points, irises included), frozen here.

A MediaPipe update must not change what a network sees, so the sets are written out instead of imported; a test compares
them with the installed MediaPipe where that offers the same set. Left and right are the person's own.
"""

from __future__ import annotations

import numpy as np

N_POINTS = 478  # with refine_landmarks=True; the last 10 are the irises

INNER_LIP_TOP = 13
INNER_LIP_BOTTOM = 14
OUTER_LIP_TOP = 0
OUTER_LIP_BOTTOM = 17
FOREHEAD = 10
CHIN = 152

# Lips, clockwise in the picture from the person's right corner along the upper lip and back along the lower one.
LIPS_OUTER_20 = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
LIPS_INNER_20 = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
# A ring a little outside the lips, around which HyperLips fills its lip masks.
HYPERLIPS_LIPS = (164, 167, 165, 92, 186, 57, 43, 106, 182, 83, 18, 313, 406, 335, 273, 287, 410, 322, 391, 393)

RIGHT_EYE = (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7)
LEFT_EYE = (362, 398, 384, 385, 386, 387, 388, 466, 263, 249, 390, 373, 374, 380, 381, 382)
RIGHT_BROW_UPPER = (70, 63, 105, 66, 107)
RIGHT_BROW_LOWER = (55, 65, 52, 53, 46)
LEFT_BROW_UPPER = (336, 296, 334, 293, 300)
LEFT_BROW_LOWER = (276, 283, 282, 295, 285)

# The whole outline from the top of the forehead, clockwise in the picture, 36 points.
FACE_OVAL = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)
# From the person's right temple over the chin to the left temple (without the forehead), 25 points.
JAWLINE = (
    *(162, 127, 234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152),
    *(377, 400, 378, 379, 365, 397, 288, 361, 323, 454, 356, 389),
)

# --- IP_LAP -----------------------------------------------------------------------------------------------------------
# Order of the points as the published networks expect them: checkpoint weights depend on it.
IPLAP_CHEEKS = (162, 127, 234, 93, 323, 454, 356, 389)
IPLAP_NOSE = (168, 6, 197, 195, 5, 48, 115, 220, 45, 4, 275, 440, 344, 278)
IPLAP_JAW = JAWLINE[4:-4]
IPLAP_POSE = (
    *IPLAP_CHEEKS,
    *RIGHT_BROW_UPPER,
    *RIGHT_BROW_LOWER,
    *LEFT_BROW_UPPER,
    *LEFT_BROW_LOWER,
    *IPLAP_NOSE,
    *RIGHT_EYE,
    *LEFT_EYE,
)
IPLAP_CONTENT = (*IPLAP_JAW, *LIPS_OUTER_20, *LIPS_INNER_20)
IPLAP_ORDER = (*IPLAP_POSE, *IPLAP_CONTENT)


def _chain(*points: int) -> list[tuple[int, int]]:
    """The edges of an open line."""
    return list(zip(points[:-1], points[1:], strict=True))


def _loop(points: tuple[int, ...]) -> list[tuple[int, int]]:
    """The edges of a closed line."""
    return _chain(*points, points[0])


# Lines of the sketch as pairs of mesh indices, (125, 2). The nose is not MediaPipe's FACEMESH_NOSE, and the oval ends
# at the temples: both as in the published code.
IPLAP_EDGES = np.array(
    [
        *_loop(LIPS_OUTER_20),
        *_loop(LIPS_INNER_20),
        *_loop(LEFT_EYE),
        *_loop(RIGHT_EYE),
        *_chain(*LEFT_BROW_UPPER),
        *_chain(*LEFT_BROW_LOWER),
        *_chain(*RIGHT_BROW_UPPER),
        *_chain(*RIGHT_BROW_LOWER),
        *_chain(*JAWLINE),
        *_chain(168, 6, 197, 195, 5, 4),
        *_chain(4, 45, 220, 115, 48),
        *_chain(4, 275, 440, 344, 278),
    ],
    dtype=np.int32,
)
IPLAP_EDGES.setflags(write=False)

# --- iBUG 68 ----------------------------------------------------------------------------------------------------------
# Approximate iBUG-68 points picked from the mesh: jaw 0-16, brows 17-26, nose 27-35, eyes 36-47, lips 48-67.
IBUG68_FROM_478 = (
    *(127, 234, 132, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 361, 454, 356),
    *(70, 63, 105, 66, 107, 336, 296, 334, 293, 300),
    *(168, 197, 5, 4, 75, 97, 2, 326, 305),
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),
    *(78, 82, 13, 312, 308, 317, 14, 87),
)

# Outline used to paste a generated mouth and jaw back: jaw from ear to ear, then the brows from left to right ear.
PASTE_CONTOUR = (*JAWLINE[1:-1], *LEFT_BROW_UPPER[::-1], *RIGHT_BROW_UPPER[::-1])


def to_ibug68(points: np.ndarray) -> np.ndarray:
    """iBUG-68 points from mesh points, with the jaw spread evenly.

    The 17 jaw points are the outline resampled to equal 2-D arc length on each side of the chin, as FAN spaces them.

    Args:
        points: (..., 468 or 478, 2 or 3), any unit; for depth as FAN has it, pass z = -mediapipe z.

    Returns:
        (..., 68, 2 or 3) of the same dtype.
    """
    points = np.asarray(points)
    result = points[..., list(IBUG68_FROM_478), :].copy()
    flat, out = points.reshape(-1, *points.shape[-2:]), result.reshape(-1, *result.shape[-2:])
    # The chin (index 12 of the line) ends one side and begins the other, so point 8 is written twice, equal.
    right, left = list(JAWLINE[1:13]), list(JAWLINE[12:-1])
    for source, target in zip(flat, out, strict=True):
        target[0:9] = _even(source[right], 9)
        target[8:17] = _even(source[left], 9)
    return out.reshape(result.shape)


def _even(line: np.ndarray, count: int) -> np.ndarray:
    """Resample a polyline (P, D) to `count` points at equal arc length, measured in x and y."""
    steps = np.linalg.norm(np.diff(line[:, :2], axis=0), axis=1)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    # Both ends included.
    at = np.linspace(0.0, along[-1], count)
    return np.stack([np.interp(at, along, line[:, axis]) for axis in range(line.shape[1])], axis=1)
