"""The clip that metrics score."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from talkingface.errors import DataError, TalkingFaceError, Unavailable
from talkingface.faces.regions import region_boxes
from talkingface.faces.zoom import Again
from talkingface.media import FPS, KeptFrames, read_audio

if TYPE_CHECKING:
    from talkingface.faces.track import LandmarkTrack

KEPT_MB = 256
"""Memory for the decoded videos of a sample that is scored alone."""

AudioSource = Path | Callable[[], np.ndarray]


@dataclass
class EvalSample:
    """One video to score, lazily decoded; landmarks and sound are computed once and shared by all metrics.

    Attributes:
        clip_id: the clip.
        row: `generated`, `real`, `still` or `shuffled`.
        generated: the video that is scored.
        reference: the real video of the clip.
        audio: what drove the picture: a file, or a function that returns (n,) float32 16 kHz; None: the video's own.
        tracker: finds the landmarks of a video, from its path (for messages) and frames.
        reference_track: returns the landmarks of the real video; None: `tracker` finds them.
        donor_track: for audio of another clip, returns the landmarks of that clip's real video.
        counterpart: for audio of another clip, the video that the same system made with the clip's own audio.
        kept: memory for decoded videos: one that fits is decoded once for all metrics, a longer one again by each.
        fps: rate at which both videos are read, resampled by timestamps.
        curves: what a metric leaves for the report's plots, by name: the value at every offset from -n to n frames.
    """

    clip_id: str
    row: str
    generated: Path
    reference: Path
    audio: AudioSource | None = None
    tracker: Callable[[Path, Iterable[np.ndarray]], LandmarkTrack] | None = None
    reference_track: Callable[[], LandmarkTrack] | None = None
    donor_track: Callable[[], LandmarkTrack] | None = None
    counterpart: Path | None = None
    fps: float = FPS
    kept: KeptFrames = field(default_factory=partial(KeptFrames, KEPT_MB), repr=False)
    lengths: tuple[int, int] | None = field(default=None, init=False)
    frames: dict[str, int] = field(default_factory=dict, init=False)
    excluded: dict[str, int] = field(default_factory=dict, init=False)
    notes: list[str] = field(default_factory=list, init=False)
    curves: dict[str, list[float]] = field(default_factory=dict, init=False)
    _cache: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def pairs(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Frames (generated, real), each (H, W, 3) uint8 RGB, up to the end of the shorter video.

        The videos are decoded to their ends, so that a difference in length is known afterwards (`lengths`). The column
        or row that encoders add to odd sizes is cut off. A video compared with itself gives one frame twice.

        Raises:
            DataError: the two videos differ in size otherwise.
        """
        if self.generated == self.reference:
            count = 0
            for count, frame in enumerate(self.generated_frames(), start=1):  # noqa: B007
                yield frame, frame
            self.lengths = (count, count)
            return
        counts = [0, 0]
        for pair in zip_longest(self.generated_frames(), self._read(self.reference)):
            counts = [count + (frame is not None) for count, frame in zip(counts, pair, strict=True)]
            if pair[0] is not None and pair[1] is not None:
                yield self._same_size(*pair)
        self.lengths = (counts[0], counts[1])

    def generated_frames(self, fps: float | None = None) -> Iterator[np.ndarray]:
        """Frames of the scored video, (H, W, 3) uint8 RGB; at another rate for a metric that is bound to one."""
        return self._read(self.generated, fps)

    def generated_track(self) -> LandmarkTrack:
        """Landmarks of the scored video.

        Raises:
            TalkingFaceError: no face in it, or landmarks cannot be found here; the same again at every call.
        """
        return self._once("generated", self._find_generated)

    def real_track(self) -> LandmarkTrack:
        """Landmarks of the real video."""
        return self._once("reference", self.reference_track or (lambda: self._track(self.reference)))

    def counterpart_track(self) -> LandmarkTrack:
        """Landmarks of `counterpart`."""
        assert self.counterpart is not None
        path = self.counterpart
        return self._once("counterpart", lambda: self._track(path))

    def counterpart_frames(self) -> Iterator[np.ndarray]:
        """Frames of `counterpart`, (H, W, 3) uint8 RGB."""
        assert self.counterpart is not None
        return self._read(self.counterpart)

    def other_track(self) -> LandmarkTrack | None:
        """Landmarks of the real video that belongs to the driving audio, where that is another clip's."""
        return None if self.donor_track is None else self._once("donor", self.donor_track)

    def driving_audio(self) -> np.ndarray:
        """(n,) mono 16 kHz: the sound that the picture should follow."""
        return self._once("audio", lambda: self._load(self.audio or self.generated))

    def boxes(self, region: str) -> np.ndarray:
        """(F, 4) boxes of `face` or `mouth` in the real video; see `regions.region_boxes`."""
        return self._once(f"boxes {region}", lambda: region_boxes(self.real_track(), region))

    def cuts(self, region: str) -> np.ndarray | None:
        """Boxes of a region, None for the whole `frame`; none at all, with a note, where landmarks are missing."""

        def find() -> np.ndarray:
            try:
                return self.boxes(region)
            except TalkingFaceError as error:
                self.notes.append(f"no {region} region: {error}")
                return np.empty((0, 4))

        return None if region == "frame" else self._once(f"cuts {region}", find)

    def count(self, figure: str, frames: int, excluded: int = 0) -> None:
        """Note how many frames (or windows) a figure is the mean of, and how many were left out."""
        self.frames[figure] = frames
        self.excluded[figure] = excluded

    def _same_size(self, generated: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        height, width = (side + side % 2 for side in real.shape[:2])
        if generated.shape[:2] == (height, width):
            generated = generated[: real.shape[0], : real.shape[1]]
        if generated.shape != real.shape:
            sizes = [f"{frame.shape[1]}x{frame.shape[0]}" for frame in (generated, real)]
            raise DataError(f"{self.generated}: {sizes[0]} frames, but the real video {self.reference} has {sizes[1]}")
        return generated, real

    def _find_generated(self) -> LandmarkTrack:
        return self.real_track() if self.generated == self.reference else self._track(self.generated)

    def _track(self, path: Path) -> LandmarkTrack:
        if self.tracker is None:
            raise Unavailable("no landmark provider")
        return self.tracker(path, Again(lambda: self._read(path)))

    def _read(self, path: Path, fps: float | None = None) -> Iterator[np.ndarray]:
        return self.kept.frames(path, fps or self.fps)

    @staticmethod
    def _load(source: AudioSource) -> np.ndarray:
        if callable(source):
            return source()
        return read_audio(source)

    def _once(self, key: str, make: Callable[[], Any]) -> Any:
        """`make()`, once per sample; a failure is remembered too: finding no face takes as long as finding one."""
        if key not in self._cache:
            try:
                self._cache[key] = make()
            except TalkingFaceError as error:
                self._cache[key] = error
        value = self._cache[key]
        if isinstance(value, TalkingFaceError):
            raise value
        return value
