"""Decoded face crops that loader processes share: whoever needs a clip first decodes it for all of them."""

from __future__ import annotations

import mmap
import multiprocessing
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from talkingface.clips.folder import ClipFolder


class _Place(NamedTuple):
    number: int
    start: int
    frames: int


class SharedCrops:
    """Crops of all clips in one piece of memory without a file, which processes forked from this one write and read.

    Memory is taken when a clip is decoded, not before. Two processes that decode the same clip at once write the same.

    Args:
        clips: the clips.
        key: name of their crops.
        size: side of a crop in pixels.
    """

    def __init__(self, clips: Sequence[ClipFolder], key: str, size: int) -> None:
        self.key, self.size = key, size
        self._places: dict[str, _Place] = {}
        end = 0
        for clip in clips:
            if clip.clip_id not in self._places:
                self._places[clip.clip_id] = _Place(len(self._places), end, len(clip))
                end += len(clip) * self._frame_bytes
        self.nbytes = end
        self._crops = _shared(end)
        self._made = _shared(len(self._places))  # by clip: 1 once its crops are there
        self._lock = multiprocessing.get_context("fork").Lock()  # what is seen under it is seen in order

    @property
    def _frame_bytes(self) -> int:
        return 3 * self.size**2

    def holds(self, clip_id: str, key: str, size: int, frames: int) -> bool:
        """Whether these are the crops that there is room for."""
        place = self._places.get(clip_id)
        return place is not None and (key, size, frames) == (self.key, self.size, place.frames)

    def whole(self, clip_id: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Crops (F, S, S, 3) uint8 of a clip, by `make` if nobody has made them; not to be written to."""
        place = self._places[clip_id]
        end = place.start + place.frames * self._frame_bytes
        crops = self._crops[place.start : end].reshape(place.frames, self.size, self.size, 3)
        with self._lock:
            made = bool(self._made[place.number])
        if not made:
            crops[:] = make()
            with self._lock:
                self._made[place.number] = 1
        crops.flags.writeable = False
        return crops


def _shared(count: int) -> np.ndarray:
    """(count,) uint8 zeros that forked processes share; not in /dev/shm, which is small in containers."""
    return np.frombuffer(mmap.mmap(-1, max(1, count)), np.uint8)[:count]
