"""A voice that is still arriving, cut into windows: what lies around the frames that can be drawn by now.

Each window is a short voice of its own for the model, with enough sound on both sides of the frames that are wanted. No
more is held than the sound of one window.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from talkingface.clips.source import Audio
from talkingface.media.info import FPS, SAMPLE_RATE, frame_count, samples_of

STEP = 0.4
"""Seconds of frames that are drawn together."""

LOOK_AHEAD = 0.4
"""Seconds of sound that are heard after a frame before it is drawn: the models look up to 0.3 s ahead."""

LOOK_BACK = 1.0
"""Seconds before a frame that are heard again, for networks that listen from the beginning."""


def spoken_windows(chunks: Iterable[np.ndarray], fps: float = FPS) -> Iterator[tuple[int, Audio]]:
    """Yield windows as soon as they can be heard, and ask for no more sound before each was used.

    Args:
        chunks: pieces of a voice, (n,) float32 mono at 16 kHz.
        fps: frames per second of the video.

    Yields:
        (frame of the video that is frame 0 of the window, window with the frames `wanted`). Together these are the
        frames of the whole voice, each once and in order.
    """
    voice = _Voice(fps)
    for chunk in chunks:
        for start in range(0, len(chunk), SAMPLE_RATE):  # a whole speech in one piece must not be moved at every step
            voice.add(chunk[start : start + SAMPLE_RATE])
            while voice.can_go_on:
                yield voice.next_window()
    while voice.left:
        yield voice.next_window()


class _Voice:
    """What is held of a voice."""

    def __init__(self, fps: float) -> None:
        self.fps = fps
        self.step, self.after, self.before = (max(1, round(each * fps)) for each in (STEP, LOOK_AHEAD, LOOK_BACK))
        # Windows begin where frames and columns of spectrograms fall together: every 0.2 s, at 25 fps 5 frames.
        self.grid = 5 if fps == FPS else max(1, round(fps))
        self._parts: list[np.ndarray] = []
        self._begin = 0  # frame at which what is held begins
        self._heard = 0  # samples since the beginning of the voice
        self._done = 0  # frames that were given out
        self._memory: dict[str, Any] = {}

    def add(self, chunk: np.ndarray) -> None:
        self._parts.append(chunk)
        self._heard += len(chunk)

    @property
    def can_go_on(self) -> bool:
        """Whether a whole step can be drawn, with enough sound after it."""
        return self._heard >= samples_of(self._done + self.step + self.after, self.fps)

    @property
    def left(self) -> bool:
        """Whether frames are left of a voice that has ended."""
        return self._heard > 0 and self._done < frame_count(self._heard / SAMPLE_RATE, self.fps)

    def next_window(self) -> tuple[int, Audio]:
        held = np.concatenate(self._parts)
        stop = min(self._done + self.step, frame_count(self._heard / SAMPLE_RATE, self.fps))
        begin, before = self._begin, samples_of(self._begin, self.fps)
        heard_to = samples_of(self._done + self.step + self.after, self.fps) - before
        wanted = self._done - begin, stop - begin
        audio = Audio(held[:heard_to], wanted=wanted, before=before, memory=self._memory)
        self._done = stop
        self._forget(held)
        return begin, audio

    def _forget(self, held: np.ndarray) -> None:
        """Keep what the next window needs."""
        needed = max(0, self._done - self.before) // self.grid * self.grid
        gone = samples_of(needed, self.fps) - samples_of(self._begin, self.fps)
        self._parts, self._begin = [held[gone:]], needed
