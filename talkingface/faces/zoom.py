"""A second look for faces that are too small for MediaPipe's detector, which sees every picture shrunk to 128 pixels.

Where a face is, is looked for in overlapping tiles of a few frames; from there on it is followed in a window around it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from talkingface.errors import NoFaceError
from talkingface.faces.follow import Pick, largest_face
from talkingface.faces.track import LandmarkProvider, LandmarkTrack, track_faces

# A second look is taken where fewer frames than this show a face, and believed where it finds this many times more.
_FEW, _MORE = 0.5, 1.5
_SAMPLES = 6  # frames in which tiles are searched, and up to twice as many
_LEVELS, _LEAST_TILE = 3, 256  # tiles: the short side of the picture, then half of it, ...; a face fills an eighth
_WINDOW = 4.0  # side of the window, against that of the face
_LOOSE = 0.15  # of the window's side by which the face may be off its middle: it stands still for a face that nods
_PATIENCE = 5  # frames without the face before its window goes where it was seen in a sample

HINT = (
    "one under a twentieth of the picture, or one that is turned, may be missed: crop or turn the video, or bring its"
    " landmarks (docs/data_layout.md#landmark-files)"
)


class Again:
    """Frames that can be read as often as one likes: every iteration calls `read`."""

    def __init__(self, read: Callable[[], Iterator[np.ndarray]]) -> None:
        self._read = read

    def __iter__(self) -> Iterator[np.ndarray]:
        return self._read()


class Spot(NamedTuple):
    """Where a face was seen: frame, centre (x, y) and side in pixels."""

    frame: int
    centre: np.ndarray
    side: float


def find_track(
    frames: Iterable[np.ndarray],
    provider: LandmarkProvider,
    again: Callable[[], LandmarkProvider],
    pick: Pick = "tracked",
    max_gap: int = 25,
) -> LandmarkTrack:
    """`track_faces`, with a second look for small faces where the first finds none or few.

    Args:
        frames: (H, W, 3) uint8 RGB; an iterator, which can be read once, gets no second look.
        provider: the detector; one without `short_range` finds small faces by itself.
        again: makes a detector like it that looks at every frame by itself.
        pick: see `track_faces`.
        max_gap: see `track_faces`.

    Raises:
        NoFaceError: there are no frames, or no face in any of them.
    """
    twice = iter(frames) is not frames and getattr(provider, "short_range", False)
    try:
        track = track_faces(frames, provider, pick, max_gap)
    except NoFaceError as error:
        closer = _look_closer(frames, again(), pick, max_gap) if twice else None
        if closer is None:
            hint = f"; {HINT}" if twice and next(iter(frames), None) is not None else ""
            raise NoFaceError(f"{error}{hint}") from None
        return closer
    if twice and track.found.mean() < _FEW:
        closer = _look_closer(frames, again(), pick, max_gap, track.found)
        if closer is not None and closer.found.sum() > _MORE * track.found.sum():
            return closer
    return track


def _look_closer(
    frames: Iterable[np.ndarray],
    detector: LandmarkProvider,
    pick: Pick,
    max_gap: int,
    found: np.ndarray | None = None,
) -> LandmarkTrack | None:
    """The track of a small face, None where there is none either; frames that are `found` (F,) are not searched."""
    spots = find_spots(_samples(frames, found), detector)
    if not spots:
        return None
    try:
        return track_faces(frames, WindowedDetector(detector, spots), pick, max_gap)
    except NoFaceError:
        return None


def _samples(frames: Iterable[np.ndarray], found: np.ndarray | None) -> list[tuple[int, np.ndarray]]:
    """Up to `2 * _SAMPLES - 1` frames with their numbers, evenly spread over those without a face."""
    kept: list[tuple[int, np.ndarray]] = []
    step = count = 0
    for number, frame in enumerate(frames):
        if found is not None and found[number]:
            continue
        if count % max(1, step) == 0:
            kept.append((number, frame))
        count += 1
        if len(kept) == 2 * _SAMPLES:
            kept, step = kept[::2], 2 * max(1, step)
    return kept


def find_spots(samples: list[tuple[int, np.ndarray]], detector: LandmarkProvider) -> list[Spot]:
    """Where tiles of some frames show a face, in the largest tiles that show any; the largest face of each frame."""
    for level in range(_LEVELS):
        spots = []
        for number, frame in samples:
            side = min(frame.shape[:2]) >> level
            if level and side < _LEAST_TILE:
                return spots
            faces = [face for left, top in _tiles(frame, side) for face in _detect_in(detector, frame, left, top, side)]
            if (face := largest_face(faces)) is not None:
                spots.append(Spot(number, _middle(face), float(np.ptp(face[:, :2], axis=0).max())))
        if spots:
            return spots
    return []


def _tiles(frame: np.ndarray, side: int) -> Iterator[tuple[int, int]]:
    """Upper left corners (x, y) of squares that overlap by half and cover a frame."""
    height, width = frame.shape[:2]
    columns, rows = (np.linspace(0, size - side, 1 + -(-2 * (size - side) // side)) for size in (width, height))
    for top in rows.astype(int):
        for left in columns.astype(int):
            yield int(left), int(top)


def _detect_in(detector: LandmarkProvider, frame: np.ndarray, left: int, top: int, side: int) -> list[np.ndarray]:
    """Faces of a square of a frame, in pixels of the frame."""
    faces = detector.detect(np.ascontiguousarray(frame[top : top + side, left : left + side]))
    return [face + np.array([left, top, 0], np.float32)[: face.shape[1]] for face in faces]


def _middle(face: np.ndarray) -> np.ndarray:
    return (face[:, :2].min(axis=0) + face[:, :2].max(axis=0)) / 2


class WindowedDetector:
    """A detector that looks at a window of every frame, which follows the face; for frames in order.

    Args:
        detector: what looks; frame by frame.
        spots: where the face was seen, by rising frame.
    """

    def __init__(self, detector: LandmarkProvider, spots: list[Spot]) -> None:
        self.name, self.version, self.layout = detector.name, detector.version, detector.layout
        self._detector, self._spots = detector, spots
        self._side = _WINDOW * float(np.median([spot.side for spot in spots]))
        self._centre = spots[0].centre
        self._number, self._gone = 0, 0

    def detect(self, frame: np.ndarray) -> list[np.ndarray]:
        """Faces of the next frame, in pixels of the whole frame."""
        height, width = frame.shape[:2]
        side = min(round(self._side), height, width)
        left, top = (int(np.clip(c - side / 2, 0, size - side)) for c, size in zip(self._centre, (width, height)))
        faces = _detect_in(self._detector, frame, left, top, side)
        self._follow(faces)
        self._number += 1
        return faces

    def _follow(self, faces: list[np.ndarray]) -> None:
        if faces:
            middle = min(map(_middle, faces), key=lambda m: float(np.linalg.norm(m - self._centre)))
            self._gone = 0
            if np.abs(middle - self._centre).max() > _LOOSE * self._side:
                self._centre = middle
            return
        self._gone += 1
        if self._gone > _PATIENCE:
            self._centre = min(self._spots, key=lambda spot: abs(spot.frame - self._number)).centre
