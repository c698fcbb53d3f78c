"""Weights for pasting a generated face that fills its whole box; masks of other forms stand in `crop.py`."""

from __future__ import annotations

from typing import Literal

import numpy as np

from talkingface.faces.crop import box_pixels


def blend_mask(
    box: np.ndarray, size_hw: tuple[int, int], part: Literal["box", "lower"], feather: float
) -> np.ndarray | None:
    """Weights (H, W) uint8 of the generated face in a frame; None is the whole box with hard edges, as published.

    Args:
        box: x1, y1, x2, y2 in pixels.
        size_hw: height and width of the frame.
        part: `box`, or its `lower` half alone; above the middle the face is known, so there the mask fades in.
        feather: width of the soft edge inside the box, as a share of its mean side. Edges at the frame's border are
            hard.
    """
    weights = blend_weights(box, size_hw, part, feather)
    if weights is None:
        return None
    x1, y1, x2, y2 = box_pixels(box, size_hw)
    mask = np.zeros(size_hw, np.uint8)
    mask[y1:y2, x1:x2] = weights
    return mask


def blend_weights(
    box: np.ndarray, size_hw: tuple[int, int], part: Literal["box", "lower"], feather: float
) -> np.ndarray | None:
    """The part (h, w) of `blend_mask` that lies in the box, without the rest of the frame."""
    if part == "box" and feather == 0:
        return None
    x1, y1, x2, y2 = box_pixels(box, size_hw)
    height, width = y2 - y1, x2 - x1
    soft = round(feather * (height + width) / 2)
    rows = _ramp(height, soft, y1 > 0, y2 < size_hw[0])
    if part == "lower":
        rows = np.minimum(rows, np.clip((np.arange(height) - height // 2 + soft + 1) / (soft + 1), 0, 1))
    columns = _ramp(width, soft, x1 > 0, x2 < size_hw[1])
    return np.rint(255 * rows[:, None] * columns[None]).astype(np.uint8)


def _ramp(length: int, soft: int, rises: bool, falls: bool) -> np.ndarray:
    """(length,) weights: 1 but for the `soft` pixels at the ends that rise or fall."""
    weight = np.ones(length)
    steps = np.arange(1, length + 1) / (soft + 1)
    if rises:
        weight = np.minimum(weight, steps)
    if falls:
        weight = np.minimum(weight, steps[::-1])
    return weight
