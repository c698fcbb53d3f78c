"""Landmarks of scored videos, found the way preprocessing finds them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from talkingface.config.sections import LandmarkConfig
from talkingface.errors import NoFaceError, TalkingFaceError, Unavailable
from talkingface.faces.detectors import DEFAULT_PLACE, Place, make_provider
from talkingface.faces.track import MAX_FACES, LandmarkTrack
from talkingface.faces.zoom import find_track
from talkingface.files import writing

if TYPE_CHECKING:
    import numpy as np

    from talkingface.faces.track import LandmarkProvider


class Tracker:
    """Callable that finds the landmarks of a video file; the detector is built at the first need.

    Args:
        settings: the configuration's `preprocess.landmarks` section.
        provider: detector to use instead of the configured one.
        place: where the detector's weights lie and where it runs.
    """

    def __init__(
        self, settings: LandmarkConfig, provider: LandmarkProvider | None = None, place: Place = DEFAULT_PLACE
    ) -> None:
        self.settings = settings
        self.place = place
        self._given = provider
        self._provider = provider

    def prepare(self) -> None:
        """Build the detector.

        Raises:
            Unavailable: its package or weights are missing.
        """
        if self._provider is None:
            self._provider = self._make()

    def require_points(self) -> None:
        """See that the detector finds landmarks, for a metric that needs them.

        Raises:
            Unavailable: its package or weights are missing, or it finds face boxes only.
        """
        self.prepare()
        if self._provider.layout == "box":
            raise Unavailable(
                f"landmark provider '{self._provider.name}' finds face boxes only; set"
                " preprocess.landmarks.provider=mediapipe"
            )

    def __call__(self, path: Path, frames: Iterable[np.ndarray]) -> LandmarkTrack:
        """Landmarks of a video, from its frames (H, W, 3) uint8 RGB; `path` is named in errors.

        Frames that can be read again (`zoom.Again`) are, where the face is too small to be found at once.

        Raises:
            NoFaceError: no face in any frame.
        """
        self.prepare()
        # In tracking mode a detector remembers the last frame, so every video gets a fresh one.
        fresh = self._given is None and self.settings.mode == "tracking"
        provider = self._make() if fresh else self._provider
        try:
            return find_track(frames, provider, self._closer, self.settings.pick, self.settings.max_gap)
        except NoFaceError as error:
            raise NoFaceError(f"{path}: {error}") from None

    def describe(self) -> dict[str, Any]:
        """Name, version, layout and mode for the report; empty when no landmarks were looked for."""
        if self._provider is None:
            return {}
        provider = self._provider
        return {
            "provider": provider.name,
            "version": provider.version,
            "layout": provider.layout,
            "mode": self.settings.mode,
        }

    def _closer(self) -> LandmarkProvider:
        """A detector that looks at every frame by itself."""
        return self._provider if self._given or self.settings.mode == "static" else self._make("static")

    def _make(self, mode: Literal["static", "tracking"] | None = None) -> LandmarkProvider:
        try:
            return make_provider(
                self.settings.provider,
                mode or self.settings.mode,
                min_detection=self.settings.min_detection,
                max_faces=MAX_FACES,
                model_path=self.settings.model_path,
                place=self.place,
                detect_side=self.settings.detect_side,
            )
        except (TalkingFaceError, ImportError) as error:
            raise Unavailable(f"no landmarks: {error}") from error


class TrackCache:
    """Finds landmarks as a `Tracker` does, once for every file: they are kept in a folder, a failure in memory.

    Args:
        tracker: what finds them.
        folder: an existing folder, usually temporary: nothing tells whether a video has changed since.
    """

    def __init__(self, tracker: Callable[[Path, Iterable[np.ndarray]], LandmarkTrack], folder: Path) -> None:
        self.tracker = tracker
        self.folder = folder
        self._failed: dict[Path, TalkingFaceError] = {}

    def __call__(self, path: Path, frames: Iterable[np.ndarray]) -> LandmarkTrack:
        """Landmarks of a video, which must be read at one and the same rate every time.

        Raises:
            TalkingFaceError: the same again at every call.
        """
        if path in self._failed:
            raise self._failed[path]
        file = self.folder / f"{hashlib.sha1(os.fsencode(path.resolve())).hexdigest()}.npz"
        if file.exists():
            return LandmarkTrack.load(file)
        try:
            track = self.tracker(path, frames)
        except TalkingFaceError as error:
            self._failed[path] = error
            raise
        with writing(file):
            track.save(file)
        return track
