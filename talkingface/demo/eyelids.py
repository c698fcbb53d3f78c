"""Closed eyes, painted once into the texture of an identity instead of warping lid points frame by frame.

Collapsing the lid triangles looks like hatching; here the strip of skin above the eye is unrolled downwards, as a lid
does, so the lid keeps the light and the colour of the skin it comes from.
"""

from __future__ import annotations

import cv2
import numpy as np

from talkingface.demo import mesh

LID_LEVELS = (0.0, 0.45, 0.5, 0.9, 1.0)  # how far the lid is down; index 0 is the open eye
BLINK = (0.5, 1.0, 0.9, 0.45)  # lid level over the four frames of a blink


def lid_index(blink: float) -> int:
    """Index of the prepared texture whose lid level is nearest."""
    return int(np.argmin([abs(level - blink) for level in LID_LEVELS]))


def close_eyes(image: np.ndarray, points: np.ndarray, height: float, level: float) -> np.ndarray:
    """Return image (H, W, 3) uint8 with both lids lowered by `level` (0 open, 1 closed).

    Args:
        image: RGB picture that `points` (V, 2) lie in, pixels.
        points: face mesh in the picture.
        height: face height in pixels.
        level: share of the eye that the lid covers.
    """
    if level <= 0:
        return image
    result = image.copy()
    for upper, lower in mesh.EYES:
        _lower_lid(result, image, points[upper], points[lower], height, level)
    return result


def _lower_lid(
    result: np.ndarray, image: np.ndarray, upper: np.ndarray, lower: np.ndarray, height: float, level: float
) -> None:
    lash, strip, edge = 0.014 * height, 0.055 * height, max(1.0, 0.006 * height)
    beyond = 0.03 * height  # lashes stick out at the corners
    x0, x1 = int(np.floor(upper[0, 0] - beyond)), int(np.ceil(upper[-1, 0] + beyond)) + 1
    y0 = int(np.floor(min(upper[:, 1].min(), lower[:, 1].min()) - 1.3 * strip))
    y1 = int(np.ceil(lower[:, 1].max() + 3 * edge)) + 1
    x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, image.shape[1]), min(y1, image.shape[0])
    columns = np.arange(x0, x1, dtype=np.float64)
    top = _curve(columns, upper)
    bottom = _curve(columns, lower) + 0.004 * height
    lid = top + level * (bottom - top)
    y = np.arange(y0, y1, dtype=np.float64)[:, None]
    start = top - strip  # the crease: skin above it stays where it is
    # the skin of [start, top - lash] is stretched over [start, lid]
    stretch = (top - lash - start) / np.maximum(lid - start, 1e-6)
    from_y = np.where(y > start, start + (y - start) * stretch, y).astype(np.float32)
    from_x = np.broadcast_to(columns, from_y.shape).astype(np.float32)
    skin = cv2.remap(image, from_x, from_y, cv2.INTER_LINEAR).astype(np.float32)
    soft = cv2.GaussianBlur(skin, (0, 0), 0.02 * height, sigmaY=0.006 * height)
    covered = np.clip((y - top + lash) / (2 * lash), 0, 1)  # 0 above the old lash line, 1 on the new lid
    skin += (soft - skin) * (0.75 * covered)[..., None]  # old lashes must not streak
    depth = np.clip((y - top) / np.maximum(bottom - top, 1.0), 0, 1)
    skin *= (1 + 0.05 * np.sin(np.pi * depth) * (y > top) - 0.10 * depth**2 * (y > top))[..., None]
    # dark lashes along the lid's edge, thinner in the corners
    across = (columns - x0) / max(1, x1 - 1 - x0)
    weight = np.sin(np.pi * np.clip(across, 0, 1)) ** 0.5
    line = np.exp(-(((y - lid) / (1.4 * edge)) ** 2)) * weight * 0.62
    skin *= (1 - line)[..., None]
    alpha = np.clip((lid + 1.5 * edge - y) / edge, 0, 1) * np.clip((y - start) / (0.4 * strip), 0, 1)
    fade = np.clip(np.minimum(columns - x0, x1 - 1 - columns) / (0.03 * height), 0, 1)
    alpha = (alpha * fade)[..., None]
    patch = result[y0:y1, x0:x1]
    patch[:] = (alpha * skin + (1 - alpha) * patch).round().clip(0, 255).astype(np.uint8)


def _curve(columns: np.ndarray, line: np.ndarray) -> np.ndarray:
    """Height of a lid line at integer columns: a quartic fit, smoother than nine straight pieces."""
    order = np.argsort(line[:, 0])
    x, y = line[order, 0], line[order, 1]
    middle, half = (x[0] + x[-1]) / 2, max((x[-1] - x[0]) / 2, 1e-6)
    fit = np.polynomial.polynomial.polyfit((x - middle) / half, y, 4)
    return np.polynomial.polynomial.polyval(np.clip((columns - middle) / half, -1, 1), fit)
