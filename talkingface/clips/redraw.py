"""The loop over output frames that every model which redraws a face in its film goes through."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np


class FrameBatch(NamedTuple):
    """Consecutive output frames.

    Attributes:
        rows: (m,) their numbers.
        shown: (m,) the source frame that each of them shows.
        pictures: the m source frames, (H, W, 3) uint8 RGB; whoever redraws a face puts its frame here, and what is not
            touched passes as it is.
        faces: (k,) positions in the batch where there is a face.
    """

    rows: np.ndarray
    shown: np.ndarray
    pictures: list[np.ndarray]
    faces: np.ndarray


def frame_batches(
    frames: Iterator[np.ndarray], order: np.ndarray, valid: np.ndarray, rows: np.ndarray, size: int
) -> Iterator[FrameBatch]:
    """Gather output frames in batches; only one batch of pictures is held at a time.

    Args:
        frames: the source frames of `order`, as `source.frames(order)` streams them; exactly as many as `rows` are
            taken, so that a model which works in stretches calls this once for each.
        order: (n,) source frame shown at each output frame.
        valid: (F,) bool, source frames with a face.
        rows: consecutive output frames, those that `frames` gives next.
        size: frames per batch.
    """
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        pictures = list(islice(frames, len(part)))
        shown = order[part]
        yield FrameBatch(part, shown, pictures, np.flatnonzero(valid[shown[: len(pictures)]]))
