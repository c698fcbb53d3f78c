"""What is heard at each frame of a clip: two rows of features make one, five around a frame steer its mouth.

Frames are those of videos at 25 fps, rows come 50 per second.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from talkingface.errors import DataError
from talkingface.sound.recogniser import ROWS_PER_SECOND, PerFrame, frame_rows

if TYPE_CHECKING:
    from talkingface.clips.folder import ClipFolder
    from talkingface.sound.choice import FrontEndConfig
    from talkingface.sound.rows import Rows

BESIDE = 2
"""Rows that a frame hears before and after its own."""

FPS = 25
MOST_FILLED = 3
"""Frames at the end of a clip that may have no sound of their own; the last row is held."""


def per_frame(front_end: str) -> PerFrame:
    """How two rows become one: published features take every second one, `logmel` would thereby skip half the sound."""
    return "mean" if front_end == "logmel" else "every_second"


def rows_of_frames(rows: Rows, frames: int, front_end: str) -> np.ndarray:
    """What is heard at each of so many frames, (frames, width) float32.

    Raises:
        DataError: the rows come at another rate, or end more than `MOST_FILLED` frames before the video.
    """
    if rows.per_second not in (ROWS_PER_SECOND, FPS):
        raise DataError(f"{rows.per_second:g} rows of {front_end} per second, where {ROWS_PER_SECOND} are needed")
    one_each = rows.per_second == FPS  # what older code has prepared
    there = min(frames, len(rows.values) if one_each else (len(rows.values) + 1) // 2)
    if frames - there > MOST_FILLED or not there:
        raise DataError(f"sound for {there} of {frames} frames")
    known = rows.values[:there] if one_each else frame_rows(rows.values, there, per_frame(front_end))
    return np.pad(known, ((0, frames - there), (0, 0)), mode="edge")


def heard_in(clip: ClipFolder, choice: FrontEndConfig) -> np.ndarray:
    """`rows_of_frames` of a prepared clip.

    Raises:
        DataError: the clip has no such rows, or they do not fit it.
    """
    return rows_of_frames(clip.features(choice.artefact), len(clip), choice.name)


def sounding_frames(clip: ClipFolder) -> range:
    """Frames whose rows, `BESIDE` them on both sides, hold nothing but sound of the clip.

    See `clips.windows.known_columns`: where filter `sync` has moved the sound, one end is silence that is none.
    """
    moved = clip.number("audio", "moved_frames", 0)
    rate = max(clip.number("sync", "fps", clip.fps), 1.0)
    filled = math.ceil(FPS * abs(moved) / rate)
    before, after = (filled, 0) if moved > 0 else (0, filled)
    return range(before + BESIDE, max(before + BESIDE, len(clip) - after - BESIDE))
