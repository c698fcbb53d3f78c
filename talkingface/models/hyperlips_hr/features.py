"""The features of Base's faces over time, and their sketches: one way for training and use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from talkingface.faces.sketch import face_sketch
from talkingface.faces.smoothing import OneEuro

if TYPE_CHECKING:
    from talkingface.models.hyperlips_hr.config import SketchConfig


class Features:
    """Follows the mesh of a face from frame to frame.

    Args:
        config: how it is smoothed and drawn.
        size: side of the sketches.
        fps: frames per second.
    """

    def __init__(self, config: SketchConfig, size: int, fps: float = 25.0) -> None:
        self.config, self.size = config, size
        self._filter = OneEuro(fps, config.slowest, config.gain) if config.smooth == "one_euro" else None
        self._last: np.ndarray | None = None

    def next(self, points: np.ndarray, follows: bool) -> np.ndarray | None:
        """The mesh (478, 2) of the next frame, smoothed; without one (NaN) the last one serves, if there is any.

        Args:
            points: (478, 2) relative to the crop.
            follows: whether the frame goes on from the one before.
        """
        if np.isfinite(points).all():
            self._last = self._filter(points, follows) if self._filter else points
        return self._last

    def sketch(self, points: np.ndarray, follows: bool, crop_side: float) -> np.ndarray:
        """The sketch (S, S) uint8 of the next frame; black as long as no mesh was found, and with style `none`."""
        return sketched(self.next(points, follows), self.config.style, self.size, crop_side)


def sketched(points: np.ndarray | None, style: str, size: int, crop_side: float) -> np.ndarray:
    """The sketch (S, S) uint8 of a mesh (478, 2); black without one, and with style `none`."""
    if points is None or style == "none":
        return np.zeros((size, size), np.uint8)
    return face_sketch(points, size, style, crop_side)


def crop_sides(boxes: np.ndarray) -> np.ndarray:
    """Mean side (F,) of boxes (F, 4) in pixels."""
    return (boxes[:, 2:] - boxes[:, :2]).mean(axis=1)
