"""Pauses in a sound, and what a model that dubs can do about them: hear nothing, and shut the mouth.

Recorded pauses are never silent: breath, a room and another voice move the mouths of most models.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from talkingface.lipsync.mouth_motion import frame_power, log_energy
from talkingface.media import FPS, SAMPLE_RATE

RUN = 5
"""Shortest pause in frames: less is a closure inside a word."""
EDGE = 3
"""Frames beside speech that do not count: lips open before the voice sets in and close after it."""
LEVEL_DB = -35.0
"""Beside the loudest frame: as quiet counts as silence."""
NOTHING = 1e-4
"""Sound that never exceeds this amplitude (-80 dB of full scale) is silence from end to end."""


def quiet_frames(
    audio: np.ndarray,
    frames: int,
    fps: float = FPS,
    level_db: float = LEVEL_DB,
    sample_rate: int = SAMPLE_RATE,
    loudest: float = 0.0,
    run: int = RUN,
    edge: int = EDGE,
) -> np.ndarray:
    """(frames,) bool: frames inside a pause.

    Args:
        audio: (n,) mono sound.
        frames: number of video frames.
        fps: their rate.
        level_db: a frame is silent when its loudness lies at least this far (negative dB) below the loudest frame's.
        sample_rate: Hz of the sound.
        loudest: power of a louder frame than all of these, where one is known.
        run: shortest pause in frames.
        edge: frames beside louder ones that do not count.

    Returns:
        True for the frames of runs of at least `run` silent ones that are more than `edge` frames away from any louder
        one. Beyond the ends of the clip there is silence.
    """
    if not len(audio) or float(np.abs(audio).max()) < NOTHING:
        return np.full(frames, frames >= run)
    # Two decibels of room below the level, so that the cut-off itself never decides.
    loud = log_energy(audio, frames, fps, sample_rate, floor=level_db - 2.0, loudest=loudest) > level_db
    quiet = ~loud
    # Borders of the runs: 1 where one begins, -1 where it has ended; zeros at both ends close the outer ones.
    edges = np.flatnonzero(np.diff(np.concatenate([[0], quiet.astype(np.int8), [0]])))
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        if stop - start < run:
            quiet[start:stop] = False
    # How many loud frames lie within `edge` of each.
    near = np.convolve(loud, np.ones(2 * edge + 1))[edge : edge + frames] > 0
    return quiet & ~near


FADE = 2
"""Frames on both sides of the border of a pause over which a mouth shuts or opens."""


class Loudness:
    """How loud a voice has been, for one that arrives in windows: a pause is as long as a whole window."""

    def __init__(self) -> None:
        self._loudest = 0.0

    def hear(self, audio: np.ndarray, frames: int, fps: float = FPS) -> float:
        """Power of the loudest frame of a window (n,) at 16 kHz and of all before."""
        self._loudest = float(frame_power(audio, frames, fps).max(initial=self._loudest))
        return self._loudest


class Pauses(NamedTuple):
    """Where a sound pauses.

    Attributes:
        shut: (F,) float32 in [0, 1], how much of a frame's mouth is that of the pause.
    """

    shut: np.ndarray

    @classmethod
    def of(
        cls, audio: np.ndarray, frames: int, fps: float = FPS, level_db: float = LEVEL_DB, loudest: float = 0.0
    ) -> Pauses:
        """The pauses of a sound (n,) at 16 kHz; see `quiet_frames`."""
        quiet = quiet_frames(audio, frames, fps, level_db, loudest=loudest).astype(np.float32)
        padded = np.pad(quiet, FADE, mode="edge")
        return cls(np.convolve(padded, np.full(2 * FADE + 1, 1 / (2 * FADE + 1)), mode="valid").astype(np.float32))

    @classmethod
    def none(cls, frames: int) -> Pauses:
        """No pause in so many frames."""
        return cls(np.zeros(frames, np.float32))

    def hushed(self, audio: np.ndarray, fps: float = FPS) -> np.ndarray:
        """The sound (n,) at 16 kHz with silence in the pauses; the array given is not written to."""
        if not self.shut.any():
            return audio
        middles = (np.arange(len(self.shut)) + 0.5) * SAMPLE_RATE / fps
        return audio * (1 - np.interp(np.arange(len(audio)), middles, self.shut)).astype(np.float32)
