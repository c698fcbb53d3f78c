"""Pictures that something shines through.

Inside the toolkit such a picture is held as it is seen on white, with its opacity beside it: whoever does not ask for
the opacity shows the right thing, and whatever moves or mixes pixels linearly may treat both alike, as with colour that
is premultiplied. Only files hold colour and opacity apart (`straight`).
"""

from __future__ import annotations

import cv2
import numpy as np


def straight(shown: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """What files hold: colours by themselves, and the opacity as a fourth channel.

    Args:
        shown: (H, W, 3) uint8 RGB as seen on white.
        opacity: (H, W) uint8.

    Returns:
        (H, W, 4) uint8 RGBA; black where nothing is seen.
    """
    share = opacity[..., None].astype(np.float32)
    colour = (shown - (255 - share)) * (255 / np.maximum(share, 1))
    return np.dstack([np.rint(colour).clip(0, 255).astype(np.uint8), opacity])


class Backdrop:
    """A picture that stands behind others.

    Args:
        picture: (H, W, 3) uint8 RGB of any size.
        size: height and width of what stands before it; it is stretched to them.
    """

    def __init__(self, picture: np.ndarray, size: tuple[int, int]) -> None:
        shrinks = picture.shape[0] > size[0]
        way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        fitting = picture if picture.shape[:2] == tuple(size) else cv2.resize(picture, size[::-1], interpolation=way)
        self._darker = 255 - fitting  # than white

    def behind(self, shown: np.ndarray, opacity: np.ndarray) -> np.ndarray:
        """A picture (H, W, 3) uint8, seen on white with its opacity (H, W), as it is seen before this one."""
        clear = cv2.merge([255 - opacity] * 3)
        return cv2.subtract(shown, cv2.multiply(clear, self._darker, scale=1 / 255))
