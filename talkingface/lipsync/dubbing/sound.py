"""What is heard at each frame of a clip: two rows of features make one, five around a frame steer its mouth.

Frames are those of videos at 25 fps, rows come 50 per second.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
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
RATES = (ROWS_PER_SECOND, FPS)
"""Rows per second that serve: two of a frame, or one each, as older code has prepared them."""

MOST_FILLED = 3
"""Frames at the end of a clip that may have no sound of their own; the last row is held."""


def per_frame(front_end: str) -> PerFrame:
    """How two rows become one: published features take every second one, `logmel` would thereby skip half the sound."""
    return "mean" if front_end == "logmel" else "every_second"


class Heard:
    """What is heard at each frame of a clip, taken from its rows when it is asked for: a mapped file stays on the disk.

    Args:
        rows: of the clip, 50 per second, or 25.
        frames: of the clip.
        front_end: that gave the rows.

    Raises:
        DataError: the rows come at another rate, or end more than `MOST_FILLED` frames before the video.
    """

    def __init__(self, rows: Rows, frames: int, front_end: str) -> None:
        if rows.per_second not in RATES:
            raise DataError(f"{rows.per_second:g} rows of {front_end} per second, where {ROWS_PER_SECOND} are needed")
        self._rows, self._front_end = rows.values, front_end
        self._one_each = rows.per_second == FPS  # what older code has prepared
        self._there = min(frames, len(rows.values) if self._one_each else (len(rows.values) + 1) // 2)
        if frames - self._there > MOST_FILLED or not self._there:
            raise DataError(f"sound for {self._there} of {frames} frames")

    def at(self, frames: np.ndarray) -> np.ndarray:
        """Rows (..., width) float32 of frames (...); before the first and after the last with sound that one's."""
        known = np.clip(frames, 0, self._there - 1)
        return self._rows[known] if self._one_each else frame_rows(self._rows, known, per_frame(self._front_end))

    def around(self, frames: np.ndarray, beside: int = BESIDE) -> np.ndarray:
        """Rows (n, width, 2 beside + 1) around frames (n,)."""
        return self.at(frames[:, None] + np.arange(-beside, beside + 1)).swapaxes(1, 2)


def rows_of_frames(rows: Rows, frames: int, front_end: str) -> np.ndarray:
    """What is heard at each of so many frames, (frames, width) float32; see `Heard`."""
    return Heard(rows, frames, front_end).at(np.arange(frames))


def heard_in(clip: ClipFolder, choice: FrontEndConfig) -> Heard:
    """What is heard in a prepared clip.

    Raises:
        DataError: the clip has no such rows, or they do not fit it.
    """
    return Heard(clip.features(choice.artefact), len(clip), choice.name)


def sounding_frames(clip: ClipFolder, choices: Iterable[FrontEndConfig]) -> range:
    """Frames whose rows of some front ends, `BESIDE` them on both sides, hold nothing but sound of the clip.

    See `clips.windows.known_columns`: where filter `sync` has moved the sound, one end is silence that is none. So is
    what sound lacks that ends before its video.
    """
    last = min(int(clip.number(choice.artefact, "heard_frames", len(clip))) for choice in choices)
    moved = clip.number("audio", "moved_frames", 0)
    rate = max(clip.number("sync", "fps", clip.fps), 1.0)
    filled = math.ceil(FPS * abs(moved) / rate)
    before, after = (filled, 0) if moved > 0 else (0, filled)
    return range(before + BESIDE, max(before + BESIDE, last - after - BESIDE))
