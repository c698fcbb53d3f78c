"""Decoded videos kept in memory: what is read several times is decoded once, within a budget."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from talkingface.media.info import frame_count
from talkingface.media.read import VideoReader


class _Key(NamedTuple):
    """One version of a file at one rate: a file that is written anew is another one."""

    path: str
    fps: float | None
    changed: int
    size: int


@dataclass
class _Film:
    """The first frames of a video; all of them if `whole`."""

    frames: list[np.ndarray] = field(default_factory=list)
    whole: bool = False

    @property
    def nbytes(self) -> int:
        """All frames of a video are of one size."""
        return len(self.frames) * self.frames[0].nbytes if self.frames else 0


class KeptFrames:
    """Frames of the videos read lately, up to a budget; beyond it the least recently read video goes.

    A video that does not fit is decoded by everybody who reads it, as if this were not there. Several threads may read.

    Args:
        megabytes: budget; 0 keeps nothing.
    """

    def __init__(self, megabytes: int) -> None:
        self._budget = megabytes * 2**20
        self._reserved = 0  # for videos that are being read
        self._films: OrderedDict[_Key, _Film] = OrderedDict()
        self._lock = threading.Lock()

    def frames(
        self, path: str | Path, fps: float | None, start: int = 0, stop: int | None = None
    ) -> Iterator[np.ndarray]:
        """The frames of `VideoReader(path, fps, start, stop)`, (H, W, 3) uint8 RGB, not to be written to.

        Raises:
            MediaError: the file is missing or damaged.
        """
        key = _key(path, fps)
        film = self._find(key, stop)
        if film is not None:
            yield from islice(film.frames, start, stop)
            return
        reader = VideoReader(path, fps, start, stop)
        room = 0 if start or key is None else self._reserve(_expected_bytes(reader))
        if not room:
            yield from map(_read_only, reader)
            return
        yield from self._record(key, reader, room)

    def clear(self) -> None:
        """Give the memory back."""
        with self._lock:
            self._films.clear()

    @property
    def nbytes(self) -> int:
        """Memory of the frames that are kept."""
        return sum(film.nbytes for film in self._films.values())

    def _find(self, key: _Key | None, stop: int | None) -> _Film | None:
        """The film that holds the frames up to `stop`, None where they are not all there."""
        with self._lock:
            film = self._films.get(key) if key is not None else None
            if film is None or not (film.whole or (stop is not None and stop <= len(film.frames))):
                return None
            self._films.move_to_end(key)
            return film

    def _reserve(self, needed: int) -> int:
        """Make room for a video; 0 where there is not as much, else what was asked for."""
        with self._lock:
            if self._reserved + needed > self._budget:
                return 0
            self._reserved += needed
            self._shrink()
            return needed

    def _record(self, key: _Key, reader: VideoReader, room: int) -> Iterator[np.ndarray]:
        """Yield the frames from the first on, and keep them if they are no more than there is room for."""
        film, frames, fits = _Film(), iter(reader), True
        try:
            for frame in map(_read_only, frames):
                if fits := fits and film.nbytes + frame.nbytes <= room:
                    film.frames.append(frame)
                else:
                    film.frames.clear()
                yield frame
            film.whole = fits and (reader.stop is None or len(film.frames) < reader.stop)
        except GeneratorExit:
            film.whole = fits and _at_end(frames, reader, len(film.frames))
            raise
        finally:
            self._keep(key, film, room)

    def _keep(self, key: _Key, film: _Film, room: int) -> None:
        """Give the room back, and let the film take what it needs of it."""
        with self._lock:
            self._reserved -= room
            if film.frames:
                known = self._films.pop(key, film)
                self._films[key] = max(known, film, key=lambda one: (one.whole, len(one.frames)))
            self._shrink()

    def _shrink(self) -> None:
        while self._films and self.nbytes + self._reserved > self._budget:
            self._films.popitem(last=False)


def _key(path: str | Path, fps: float | None) -> _Key | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None  # the reader says what is wrong
    return _Key(str(path), fps, found.st_mtime_ns, found.st_size)


def _read_only(frame: np.ndarray) -> np.ndarray:
    frame.flags.writeable = False
    return frame


def _expected_bytes(reader: VideoReader) -> int:
    """Memory of the frames that a reader gives, by the length that the file declares, which may be a frame short."""
    fps = reader.fps or reader.info.fps
    count = frame_count(reader.info.duration, fps) + 2 if fps else 1
    height, width = reader.size
    return (count if reader.stop is None else min(count, reader.stop)) * 3 * height * width


def _at_end(frames: Iterator[np.ndarray], reader: VideoReader, taken: int) -> bool:
    """Whether nothing follows the frames that were taken; looked at only where the file says so."""
    fps = reader.fps or reader.info.fps
    if reader.stop is not None or not fps or taken < frame_count(reader.info.duration, fps):
        return False
    try:
        return next(frames, None) is None
    except Exception:  # a file that is cut short says so to whoever reads it to its end
        return False
