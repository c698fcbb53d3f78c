"""Which output frame goes on from the one before it, for whoever remembers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from talkingface.media.shots import THRESHOLD, content_change


class Continuity:
    """Finds out, batch after batch, which output frame goes on from the one before it."""

    def __init__(self) -> None:
        self._picture: np.ndarray | None = None  # source picture of the frame before, where it had a face
        self._shown = 0

    def follow(self, pictures: Sequence[np.ndarray], shown: np.ndarray, faces: np.ndarray) -> np.ndarray:
        """Look at the next output frames.

        Args:
            pictures: the m source frames, (H, W, 3) uint8 RGB.
            shown: (m,) their numbers in the source.
            faces: (k,) positions of those with a face.

        Returns:
            (k,) bool: the frame before had a face, too, is its neighbour in the source (or itself), and no cut lies
            between them.
        """
        with_face = np.zeros(len(shown), bool)
        with_face[faces] = True
        follows = np.zeros(len(shown), bool)
        for k, (picture, number) in enumerate(zip(pictures, shown.tolist(), strict=True)):
            if with_face[k] and self._picture is not None and abs(number - self._shown) <= 1:
                follows[k] = number == self._shown or content_change(self._picture, picture) <= THRESHOLD
            self._picture, self._shown = (picture if with_face[k] else None), number
        return follows[faces]
