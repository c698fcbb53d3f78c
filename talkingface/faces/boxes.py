"""Face boxes of a whole video: padded, and smoothed over time, so that a pasted face does not tremble."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

SMOOTHED = 5
"""Boxes in the mean, as published."""


def padded_boxes(boxes: np.ndarray, pads: Sequence[float], size_hw: tuple[int, int]) -> np.ndarray:
    """Boxes (F, 4) grown by `pads` (top, bottom, left, right), inside the frame.

    Pads that are all below 1 are shares of the box's height and width, others pixels.
    """
    top, bottom, left, right = pads
    height, width = size_hw
    grown = boxes.astype(np.float64)
    sides = grown[:, [2, 3, 2, 3]] - grown[:, [0, 1, 0, 1]] if max(pads) < 1 else 1.0
    grown = grown + np.array([-left, -top, right, bottom], np.float64) * sides
    return np.clip(grown, 0, [width, height, width, height])


def smoothed_boxes(boxes: np.ndarray, valid: np.ndarray, rule: Literal["published", "centred", "none"]) -> np.ndarray:
    """Boxes (F, 4) smoothed within every unbroken run of valid frames."""
    if rule == "none":
        return boxes
    result = boxes.copy()
    mean = forward_mean if rule == "published" else centred_mean
    for start, stop in runs(valid):
        result[start:stop] = mean(boxes[start:stop])
    return result


def forward_mean(boxes: np.ndarray, window: int = SMOOTHED) -> np.ndarray:
    """Mean of each box (n, 4) and the next ones, as Wav2Lip published it; HyperLips and others took it over.

    Kept: it works in place, so the last boxes average what was smoothed before, and on whole pixels, cut off towards
    zero; boxes thereby run ahead of the face by two frames.
    """
    smooth = boxes.astype(np.int64)
    for k in range(len(smooth)):
        part = smooth[k : k + window] if k + window <= len(smooth) else smooth[len(smooth) - window :]
        smooth[k] = part.mean(axis=0)
    return smooth.astype(np.float64)


def centred_mean(boxes: np.ndarray, window: int = SMOOTHED) -> np.ndarray:
    """Mean of each box (n, 4) and its neighbours on both sides, as many as there are on the shorter one."""
    count, half = len(boxes), window // 2
    reach = np.minimum(half, np.minimum(np.arange(count), np.arange(count)[::-1]))
    sums = np.concatenate([np.zeros((1, 4)), boxes.cumsum(axis=0)])
    frames = np.arange(count)
    return (sums[frames + reach + 1] - sums[frames - reach]) / (2 * reach + 1)[:, None]


def runs(valid: np.ndarray) -> Iterator[tuple[int, int]]:
    """First and end of every unbroken run of True in `valid` (F,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], valid, [False]]).astype(np.int8)))
    for start, stop in edges.reshape(-1, 2):
        yield int(start), int(stop)
