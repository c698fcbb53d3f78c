"""Protocol `track` of the lip-sync error: faces are found, followed inside each shot, cropped and scored one by one.

Two passes over the frames: the first looks for faces (S3FD at a quarter of the size) and cuts, the second cuts out the
faces and embeds them. Neither keeps full frames beyond a short queue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from talkingface.errors import DataError
from talkingface.evaluation.metrics.inference import find_weights
from talkingface.faces.detectors import make_provider
from talkingface.faces.s3fd import S3FDDetector, resized, suppress
from talkingface.lipsync.public import face_track
from talkingface.lipsync.public.face_track import FaceTrack, SmoothTrack
from talkingface.lipsync.public.windows import LipWindows, lip_input
from talkingface.media import FPS
from talkingface.media.prefetch import prefetch
from talkingface.media.shots import THRESHOLD, CutFinder
from talkingface.weights.published import locate

if TYPE_CHECKING:
    from talkingface.faces.track import LandmarkProvider

SCALE, LEAST_SCORE, OVERLAP = 0.25, 0.9, 0.1  # of S3FD, as published


class FaceFinder(Protocol):
    """What finds faces for the tracks.

    Attributes:
        batch: pictures that `find` likes to get at once.
    """

    batch: int

    def reduce(self, frame: np.ndarray) -> np.ndarray:
        """What `find` needs of a frame (H, W, 3) uint8 RGB; called in another thread."""
        ...

    def find(self, pictures: Sequence[np.ndarray], size: tuple[int, int]) -> list[np.ndarray]:
        """Faces of each reduced frame, (n, 4 or 5) in pixels of the full frame of `size` (height, width)."""
        ...

    def describe(self) -> dict[str, Any]:
        """Name, weights and settings for the report."""
        ...


class S3FDFinder:
    """S3FD at a quarter of the frame's size, score above 0.9, boxes that overlap by more than 0.1 thinned out.

    Args:
        detector: with its weights.
        weights: what the report says about them.
    """

    def __init__(self, detector: S3FDDetector, weights: dict[str, Any]) -> None:
        self._detector, self._weights = detector, weights
        self.batch = detector.batch

    def reduce(self, frame: np.ndarray) -> np.ndarray:
        """The frame at a quarter of its size."""
        return resized(frame, SCALE)

    def find(self, pictures: Sequence[np.ndarray], size: tuple[int, int]) -> list[np.ndarray]:
        """(n, 5) boxes with scores, best first."""
        found = self._detector.detect(pictures, least=LEAST_SCORE)
        # By the sides as they are, not by 1 / SCALE: reduced pictures have whole pixels.
        height, width = (full / small for full, small in zip(size, pictures[0].shape[:2], strict=True))
        grow = np.array([width, height, width, height, 1.0], np.float32)
        return [suppress(boxes * grow, OVERLAP) for boxes in found]

    def describe(self) -> dict[str, Any]:
        """Name, weights, scale and limits."""
        limits = {"scale": SCALE, "least_score": LEAST_SCORE, "overlap": OVERLAP}
        return {"name": "s3fd", "weights": self._weights, **limits}


class LandmarkFinder:
    """Boxes around the points of a landmark detector, on full frames.

    Args:
        provider: the detector.
    """

    batch = 1

    def __init__(self, provider: LandmarkProvider) -> None:
        self._provider = provider

    def reduce(self, frame: np.ndarray) -> np.ndarray:
        """The frame itself: the detector scales it to its own size."""
        return frame

    def find(self, pictures: Sequence[np.ndarray], size: tuple[int, int]) -> list[np.ndarray]:
        """(n, 4) boxes."""
        faces = [self._provider.detect(picture) for picture in pictures]
        boxes = [[np.concatenate([f[:, :2].min(axis=0), f[:, :2].max(axis=0)]) for f in found] for found in faces]
        return [np.array(found, np.float32).reshape(-1, 4) for found in boxes]

    def describe(self) -> dict[str, Any]:
        """Name and version."""
        return {"name": self._provider.name, "version": self._provider.version}


def make_finder(
    choice: str, weights_dir: str | Path, device: str, batch: int | None = None, configured: str | None = None
) -> FaceFinder:
    """The detector of the tracks.

    Args:
        choice: `s3fd`, `mediapipe`, or `auto`: S3FD where its weights are there, else MediaPipe.
        weights_dir: folder of weight files.
        device: where S3FD runs.
        batch: pictures per pass of S3FD; None leaves it to the detector.
        configured: weights of S3FD from the configuration instead of the published ones.

    Raises:
        Unavailable: the weights of S3FD are missing, or others than the published ones.
        TalkingFaceError: they are damaged, or MediaPipe is missing.
    """
    if choice == "s3fd" or (choice == "auto" and (configured or locate(weights_dir, "s3fd").is_file())):
        weights = find_weights("s3fd", weights_dir, configured, "track_weights")
        return S3FDFinder(S3FDDetector.load(weights.path, device, batch), weights.definition)
    return LandmarkFinder(make_provider("mediapipe"))


def find_tracks(frames: Iterable[np.ndarray], finder: FaceFinder) -> list[FaceTrack]:
    """The face tracks of a video of 25 fps, shot by shot, from one pass over its frames.

    Args:
        frames: (H, W, 3) uint8 RGB.
        finder: finds the faces.

    Raises:
        DataError: no face stays long and large enough; says how far it got.
    """
    cuts = CutFinder(FPS)
    size = (0, 0)

    def examined() -> Iterator[np.ndarray]:
        nonlocal size
        for frame in frames:
            size = (frame.shape[0], frame.shape[1])
            # Cuts are looked for on the way, so that the video is decoded once for both.
            cuts.feed(frame)
            yield finder.reduce(frame)

    boxes: list[np.ndarray] = []
    with closing(prefetch(examined())) as pictures:
        while group := list(islice(pictures, finder.batch)):
            boxes += finder.find(group, size)
    # A track has to last as long as this, so shorter shots cannot hold one.
    shots = [(first, stop) for first, stop in cuts.shots() if stop - first >= face_track.MIN_TRACK]
    tracks = [track for first, stop in shots for track in face_track.link(boxes[first:stop], first)]
    if not tracks:
        raise DataError(
            f"no face track: a face must be detected in more than {face_track.MIN_TRACK} frames of a shot and be over"
            f" {face_track.MIN_SIDE:g} pixels; {len(boxes)} frames in {len(cuts.shots())} shots"
            f" ({len(shots)} long enough), {sum(map(len, boxes))} detections in {sum(len(b) > 0 for b in boxes)} frames"
        )
    return tracks


def track_embeddings(
    frames: Iterable[np.ndarray], tracks: Sequence[SmoothTrack], make: Callable[[], LipWindows]
) -> list[np.ndarray]:
    """Lip embeddings (n, 1024) of every track, from one pass over the frames of the video.

    Args:
        frames: (H, W, 3) uint8 RGB; read up to the end of the last track.
        tracks: where the faces are.
        make: an empty collector of windows, one for each track.
    """

    def crops() -> Iterator[tuple[int, np.ndarray]]:
        for number, frame in enumerate(islice(frames, max(track.last for track in tracks) + 1)):
            for index, track in enumerate(tracks):
                # Several people may be in the picture at once: a frame is cut out for each of their tracks.
                if track.first <= number <= track.last:
                    yield index, lip_input(track.crop(frame, number - track.first))

    windows = [make() for _ in tracks]
    with closing(prefetch(crops())) as pictures:
        for index, picture in pictures:
            windows[index].add(picture)
    return [each.finish() for each in windows]


def definition(finder: FaceFinder | None, smoothing: str) -> dict[str, Any]:
    """What the report says about the protocol."""
    return {
        "detector": finder.describe() if finder else None,
        "shots": {"detector": "PySceneDetect content", "threshold": THRESHOLD, "least_frames": face_track.MIN_TRACK},
        "smoothing": {"kernel": face_track.KERNEL, "padding": smoothing},
        "crop_scale": face_track.CROP_SCALE,
    }
