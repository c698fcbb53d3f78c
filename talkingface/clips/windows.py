"""Windows of consecutive frames that training items are cut from."""

from __future__ import annotations

import math

import numpy as np

from talkingface.clips.folder import ClipFolder
from talkingface.sound.mel import COLUMNS_PER_SECOND

_BLURRED_COLUMNS = 2  # a column of the mel hears 25 ms to either side


def window_starts(valid: np.ndarray, frames: int, context: int = 0) -> np.ndarray:
    """First frames of the windows whose frames all have a face.

    Args:
        valid: (F,) bool, frames with a face.
        frames: frames per window.
        context: frames left out at both ends of the clip.
    """
    if len(valid) < frames + 2 * context:
        return np.empty(0, np.int64)
    starts = np.flatnonzero(np.lib.stride_tricks.sliding_window_view(valid, frames).all(axis=1))
    return starts[(starts >= context) & (starts <= len(valid) - frames - context)]


def known_columns(clip: ClipFolder, columns: int) -> range:
    """Mel columns, of as many, that hold nothing but sound of the clip.

    Where filter `sync` has moved the sound into step with the picture, one end was filled with silence, which must not
    pass for the sound of a mouth that speaks.
    """
    moved = clip.number("audio", "moved_frames", 0)
    if not moved:
        return range(columns)
    rate = max(clip.number("sync", "fps", clip.fps), 1.0)  # offsets count at the rate of the expert that measured them
    filled = math.ceil(COLUMNS_PER_SECOND * abs(moved) / rate) + _BLURRED_COLUMNS
    return range(filled, columns) if moved > 0 else range(columns - filled)
