"""Putting mouths back into their frames: by inverse warp, softly inside the box of the mouth; or as published."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from talkingface.faces.affine import paste_by_matrix, paste_scattered
from talkingface.lipsync.continuity import Continuity

if TYPE_CHECKING:
    from talkingface.lipsync.dubbing.config import DubbingInference, Pasting
    from talkingface.networks.dubbing.geometry import MouthCrop

FOLLOWED = 0.2
"""Share of a change of tone that passes from frame to frame of a shot, or faces would flicker."""


class MouthPaster:
    """Puts the faces of one video back.

    Args:
        crop: that is drawn.
        settings: `mask_scale`, `feather`, `colour`, `paste_rounds`.
        pasting: see `DubbingInference`.
    """

    def __init__(self, crop: MouthCrop, settings: DubbingInference, pasting: Pasting = "warp") -> None:
        edge = settings.feather * crop.mouth
        self.weights = box_weights(crop, settings.mask_scale, edge)
        around = box_weights(crop, settings.mask_scale + 2 * settings.feather, edge)
        self.ring = (around > 0) & (self.weights == 0)
        self.rounds = settings.paste_rounds
        self.scatters = pasting == "scatter"
        self.matches = settings.colour == "match"
        self._tone = np.zeros(3)  # shift of the colours in the frame before
        self._continuity = Continuity()

    def paste(
        self, picture: np.ndarray, drawn: np.ndarray, true: np.ndarray, matrix: np.ndarray, shown: int
    ) -> np.ndarray:
        """A new frame with the mouth that was drawn.

        Args:
            picture: (H, W, 3) uint8 RGB.
            drawn: (h, w, 3) uint8 RGB crop.
            true: the crop as the frame has it.
            matrix: (2, 3) from frame to crop.
            shown: number of the frame in its video.
        """
        face = drawn.astype(np.float32)
        if self.matches:
            follows = self._continuity.follow([picture], np.array([shown]), np.array([0]))[0]
            face = np.clip(face + self._shift(face, true, follows), 0, 255)
        if self.scatters:
            return paste_scattered(picture, np.rint(face).astype(np.uint8), matrix)
        return paste_by_matrix(picture, face, matrix, self.weights, self.rounds)

    def _shift(self, drawn: np.ndarray, true: np.ndarray, follows: bool) -> np.ndarray:
        """What the colours lack around the mouth, (3,); followed over time within a shot."""
        lack = np.median(true[self.ring].astype(np.float32) - drawn[self.ring], axis=0)
        self._tone = self._tone + FOLLOWED * (lack - self._tone) if follows else lack
        return self._tone


def box_weights(crop: MouthCrop, scale: float, edge: float) -> np.ndarray:
    """Weights (H, W) float32 of a crop: 0 outside the box of its mouth, 1 inside, with a soft edge between.

    Args:
        crop: whose mouth it is.
        scale: of the box, around its middle; it stays inside the crop.
        edge: its width in pixels, inside the box.
    """
    ramps = []
    for size, side in ((crop.height, crop.rows), (crop.width, crop.columns)):
        middle, half = (side.start + side.stop) / 2, scale * crop.mouth / 2
        low, high = max(middle - half, 1.0), min(middle + half, size - 1.0)
        places = np.arange(size) + 0.5
        ramps.append(np.clip(np.minimum(places - low, high - places) / edge, 0, 1))
    rows, columns = (ramp * ramp * (3 - 2 * ramp) for ramp in ramps)
    return (rows[:, None] * columns).astype(np.float32)
