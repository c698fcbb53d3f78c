"""Frames between detections: a face that was missed is bridged, a face that is not there is not.

A detector misses a face behind a hand or in a blur; on a slide, a black frame or before somebody enters there is none.
The picture tells them apart: where most of the face's patch looks as it did in the frame beside the gap, the face is
still there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import cv2
import numpy as np

# Frames beyond the first and the last detection of a shot that are still bridged, where the gap there is no longer than
# `max_gap`: a face that stays away longer has more likely left than been missed.
EDGE = 3
# A patch of 12 x 12 cells goes on where this share of them changed by less than LEVELS in every channel. Measured:
# blurs, fast turns and hands that hide the face from MediaPipe leave 0.40 to 0.88 of the cells and a correlation of
# 0.34 and more; slides, black frames, cross-fades, empty rooms and other people leave up to 0.21 and 0.47.
# An area of the skin's mean colour has 0.62 of the cells, but correlation 0.
_CELLS, _LEVELS, _SHARE, _CORRELATION = 12, 30, 0.35, 0.25
_FLAT = 2.0  # standard deviation in grey levels below which a patch has no structure to be compared
_LONG_SIDE = 320  # pixels of the pictures that are remembered


class _Seen(NamedTuple):
    """A frame that is remembered until its gap is over."""

    index: int
    picture: np.ndarray  # (h, w, 3) uint8 RGB, small
    scale: float  # of the picture, against the frame


class GapBridge:
    """Bridges gaps while frames pass by; holds a few small pictures, and one whole frame.

    Args:
        max_gap: longest run of frames without a detection that is bridged, in frames.

    Attributes:
        bridged: landmarks (K, D) of the frames that were bridged so far, by frame.
    """

    def __init__(self, max_gap: int) -> None:
        self.max_gap = max_gap
        self.bridged: dict[int, np.ndarray] = {}
        self._edge = min(EDGE, max_gap)
        self._count = 0
        self._whole: np.ndarray | None = None  # the last frame, where it has a face
        self._points: np.ndarray | None = None  # its landmarks, or those of the last frame that had some
        self._before: _Seen | None = None
        self._gap: list[_Seen] = []
        self._length = 0  # of the gap so far

    def feed(self, frame: np.ndarray, points: np.ndarray | None) -> None:
        """Look at the next frame, (H, W, 3) uint8 RGB, and its landmarks (K, 2 or 3) in pixels, None without a face."""
        if points is None:
            self._miss(frame)
        else:
            if self._gap:
                self._close(_seen(self._count, frame), points)
            self._whole, self._points = frame, points
            self._before, self._gap, self._length = None, [], 0
        self._count += 1

    def close(self) -> None:
        """The film is over: what stands behind its last detection is bridged for a few frames."""
        if self._points is not None and self._gap:
            self._hold(self._gap, self._before, self._points)

    def _miss(self, frame: np.ndarray) -> None:
        if self._whole is not None:
            self._before, self._whole = _seen(self._count - 1, self._whole), None
        self._gap.append(_seen(self._count, frame))
        self._length += 1
        if self._length > self.max_gap:
            self._gap.clear()  # too long to be bridged

    def _close(self, after: _Seen, points: np.ndarray) -> None:
        before, last = self._before, self._points
        if before is None or last is None:
            self._hold(self._gap[::-1], after, points)
            return
        if _goes_on(before, last, after, points):
            for seen in self._gap:
                self._between(seen, after, points)
            return
        self._hold(self._gap, before, last)
        self._hold([seen for seen in self._gap[::-1] if seen.index not in self.bridged], after, points)

    def _between(self, seen: _Seen, after: _Seen, points: np.ndarray) -> None:
        """Interpolate a frame of the gap, if its picture goes on from the one before or into the one after it."""
        before, last = self._before, self._points
        share = np.float32((seen.index - before.index) / (after.index - before.index))
        between = last * (1 - share) + points * share
        if _goes_on(before, last, seen, between) or _goes_on(after, points, seen, between):
            self.bridged[seen.index] = between

    def _hold(self, gap: list[_Seen], beside: _Seen, points: np.ndarray) -> None:
        """Hold the landmarks of a detection for the next few frames, as long as its picture goes on."""
        for seen in gap[: self._edge]:
            if not _goes_on(beside, points, seen, points):
                return
            self.bridged[seen.index] = points


def bridge_gaps(points: np.ndarray, found: np.ndarray, max_gap: int, frames: Iterable[np.ndarray]) -> np.ndarray:
    """Bridge the gaps of a track by the pictures it belongs to.

    Args:
        points: (F, K, D) landmarks in pixels, filled in place.
        found: (F,) bool, frames with landmarks.
        max_gap: see `GapBridge`.
        frames: the F pictures, (H, W, 3) uint8 RGB; not read where there is no gap.

    Returns:
        (F,) bool, frames that have points now.
    """
    if found.all() or not max_gap:
        return found.copy()
    bridge = GapBridge(max_gap)
    for index, frame in zip(range(len(found)), frames, strict=False):
        bridge.feed(frame, points[index] if found[index] else None)
    bridge.close()
    return fill_in(points, found, bridge)


def fill_in(points: np.ndarray, found: np.ndarray, bridge: GapBridge) -> np.ndarray:
    """Write bridged landmarks into `points` (F, K, D); returns which frames have points."""
    valid = found.copy()
    for index, between in bridge.bridged.items():
        points[index], valid[index] = between, True
    return valid


def _seen(index: int, frame: np.ndarray) -> _Seen:
    height, width = frame.shape[:2]
    scale = min(1.0, _LONG_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return _Seen(index, cv2.resize(frame, size, interpolation=cv2.INTER_AREA), scale)


def _goes_on(first: _Seen, points: np.ndarray, second: _Seen, others: np.ndarray) -> bool:
    """Whether two frames show much the same face, each where its landmarks say."""
    patches = _patch(first, points), _patch(second, others)
    same = np.abs(patches[0] - patches[1]).max(axis=-1) < _LEVELS
    return bool(same.mean() >= _SHARE) and _correlation(*(p.mean(axis=-1) for p in patches)) >= _CORRELATION


def _patch(seen: _Seen, points: np.ndarray) -> np.ndarray:
    """The face of a picture, (12, 12, 3) float32."""
    height, width = seen.picture.shape[:2]
    low = np.clip(np.floor(points[:, :2].min(axis=0) * seen.scale), 0, [width - 1, height - 1]).astype(int)
    high = np.maximum(np.ceil(points[:, :2].max(axis=0) * seen.scale).astype(int), low + 1)
    face = seen.picture[low[1] : high[1], low[0] : high[0]]
    return cv2.resize(face, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA).astype(np.float32)


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Correlation of two patches; two areas without structure are alike, one alone is like nothing."""
    flat = first.std() < _FLAT, second.std() < _FLAT
    if any(flat):
        return float(all(flat))
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])
