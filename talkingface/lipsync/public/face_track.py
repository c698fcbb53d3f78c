"""Face tracks of the LSE protocol `track`: detections linked inside a shot, smoothed, and the crop around the face.

Follows the pipeline of the public syncnet_python; the numbers below are its defaults.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

MIN_TRACK = 100  # frames of a shot, and detections that a track must exceed
MAX_GAP = 25  # frames without a detection that a track survives
MIN_OVERLAP = 0.5  # intersection over union of a face with itself a frame later
MIN_SIDE = 100.0  # pixels, mean width or height of the face
KERNEL = 13  # frames of the median filter
CROP_SCALE = 0.4  # of half a face, added on the sides; twice as much below
PAD_VALUE = 110  # grey outside the picture
SIDE = 224  # pixels of a crop


@dataclass(frozen=True)
class FaceTrack:
    """One face through consecutive frames.

    Attributes:
        first: its first frame.
        boxes: (n, 4) float64 `x1, y1, x2, y2` in pixels, one for each frame.
    """

    first: int
    boxes: np.ndarray

    @property
    def last(self) -> int:
        """Its last frame."""
        return self.first + len(self.boxes) - 1


@dataclass(frozen=True)
class SmoothTrack:
    """Where the crop of every frame of a track lies.

    Attributes:
        first: first frame of the track.
        half_size: (n,) half the longer side of the face, pixels.
        x: (n,) centre.
        y: (n,) centre.
    """

    first: int
    half_size: np.ndarray
    x: np.ndarray
    y: np.ndarray

    @property
    def last(self) -> int:
        """Last frame of the track."""
        return self.first + len(self.x) - 1

    def rectangle(self, index: int) -> tuple[int, int, int, int, int]:
        """`pad, y0, y1, x0, x1` of frame `first + index`: the crop in a picture padded by `pad` on all sides.

        The crop reaches further down than up: 1.8 against 1.0 half sizes.
        """
        half = float(self.half_size[index])
        pad = int(half * (1 + 2 * CROP_SCALE))
        # `int` truncates, as the published code does: a pixel more or less changes the picture that is scored.
        x, y = float(self.x[index]) + pad, float(self.y[index]) + pad
        below, beside = half * (1 + 2 * CROP_SCALE), half * (1 + CROP_SCALE)
        return pad, int(y - half), int(y + below), int(x - beside), int(x + beside)

    def crop(self, frame: np.ndarray, index: int) -> np.ndarray:
        """The face in frame `first + index`, (224, 224, 3) uint8; 110 where the crop leaves the picture."""
        pad, y0, y1, x0, x1 = self.rectangle(index)
        height, width = frame.shape[:2]
        # The published code copies the whole picture into a padded one; only the crop itself is filled here.
        y0, y1 = (min(max(y, 0), height + 2 * pad) - pad for y in (y0, y1))
        x0, x1 = (min(max(x, 0), width + 2 * pad) - pad for x in (x0, x1))
        part = np.full((max(y1 - y0, 1), max(x1 - x0, 1), 3), PAD_VALUE, np.uint8)
        inside = frame[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)]
        top, left = max(-y0, 0), max(-x0, 0)
        part[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
        return cv2.resize(part, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)


def link(detections: Sequence[np.ndarray], first: int = 0) -> list[FaceTrack]:
    """Tracks of the faces of one shot, in the order in which they are found.

    A track starts with the first detection left over and takes, frame by frame, one that overlaps its last. It is kept
    with more than `MIN_TRACK` detections, and a mean width or height over 100 pixels; gaps are filled linearly.

    Args:
        detections: boxes of each frame, (n, 4 or 5), the best one first.
        first: number of the first frame of the shot.
    """
    # Copies: `_chains` removes from these lists what it uses.
    left = [[np.asarray(box[:4], np.float64) for box in boxes] for boxes in detections]
    tracks = []
    for chain in _chains(left):
        if len(chain) <= MIN_TRACK:
            continue
        frames, boxes = np.array([frame for frame, _ in chain]), np.stack([box for _, box in chain])
        every = np.arange(frames[0], frames[-1] + 1)
        filled = np.stack([np.interp(every, frames, column) for column in boxes.T], axis=1)
        if (filled[:, 2:] - filled[:, :2]).mean(axis=0).max() > MIN_SIDE:
            tracks.append(FaceTrack(first + int(every[0]), filled))
    return tracks


def _chains(left: list[list[np.ndarray]]) -> Iterator[list[tuple[int, np.ndarray]]]:
    """Remove one track after the other from the detections that are left over, until there are none."""
    for frame, boxes in enumerate(left):
        # A track begins at the first detection that is left, so nothing is left in the frames before.
        while boxes:
            yield _take_chain(left, frame)


def _take_chain(left: list[list[np.ndarray]], first: int) -> list[tuple[int, np.ndarray]]:
    """Remove the track that begins in the frame `first`: (frame, box) of each detection."""
    chain: list[tuple[int, np.ndarray]] = []
    for frame in range(first, len(left)):
        boxes = left[frame]
        if chain and frame - chain[-1][0] > MAX_GAP:
            break
        for index, box in enumerate(boxes):
            if not chain or overlap(box, chain[-1][1]) > MIN_OVERLAP:
                chain.append((frame, boxes.pop(index)))
                break
    return chain


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    sides = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0.0)
    common = float(np.prod(sides))
    areas = float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]))
    return common / max(areas - common, 1e-9)


def smooth(track: FaceTrack, padding: str = "zero") -> SmoothTrack:
    """Median-filter size and centre of a track over 13 frames.

    Args:
        track: as linked.
        padding: `zero` as published: zeros stand beyond both ends, which shrinks the crop and pulls its centre there;
            `nearest` repeats the end values.
    """
    x1, y1, x2, y2 = track.boxes.T
    # Half the longer side: the crop is a square, 2.8 of it high and wide.
    series = (np.maximum(x2 - x1, y2 - y1) / 2, (x1 + x2) / 2, (y1 + y2) / 2)
    return SmoothTrack(track.first, *(running_median(values, KERNEL, padding) for values in series))


def running_median(values: np.ndarray, kernel: int, padding: str = "zero") -> np.ndarray:
    """(n,) median of `kernel` (odd) neighbouring values; beyond the ends stand zeros, or the end values (`nearest`)."""
    padded = np.pad(values, kernel // 2, mode="constant" if padding == "zero" else "edge")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, kernel), axis=-1)
