"""Shot cuts in a stream of frames, by the content detector of PySceneDetect, without decoding the video again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from talkingface.media.info import FPS

THRESHOLD = 27.0  # PySceneDetect's default since 0.6: mean change of hue, saturation and brightness


class CutFinder:
    """Finds cuts while frames pass by.

    Args:
        fps: frame rate.
        threshold: mean change of a pixel between two frames, in grey levels, that counts as a cut.

    Attributes:
        cuts: frames that begin another shot, so far. A cut is known with its frame, or at the latest when 15 frames
            more have been seen: of several cuts within 15 frames the last one counts.
        count: frames seen.
    """

    def __init__(self, fps: float = FPS, threshold: float = THRESHOLD) -> None:
        from scenedetect.detectors import ContentDetector

        self.fps = fps
        self.cuts: list[int] = []
        self.count = 0
        # The detector alone, without PySceneDetect's scene manager, which would open and decode the file again.
        self._detector = ContentDetector(threshold=threshold)

    def feed(self, frame: np.ndarray) -> None:
        """Look at the next frame, (H, W, 3) uint8 RGB; all frames must have one size."""
        from scenedetect.common import FrameTimecode

        found = self._detector.process_frame(FrameTimecode(self.count, self.fps), _small_bgr(frame))
        self.cuts += [timecode.frame_num for timecode in found]
        self.count += 1

    def shots(self) -> list[tuple[int, int]]:
        """Shots as (first frame, one past the last)."""
        return shots(self.cuts, self.count)


def content_change(before: np.ndarray, after: np.ndarray) -> float:
    """Mean change of hue, saturation and brightness between two frames (H, W, 3) uint8 RGB: a cut above `THRESHOLD`.

    The same figure as PySceneDetect's content detector compares, for two frames alone.
    """
    first, second = (cv2.cvtColor(_small_bgr(frame), cv2.COLOR_BGR2HSV).astype(np.float32) for frame in (before, after))
    return float(np.abs(first - second).mean())


def find_cuts(frames: Iterable[np.ndarray], fps: float = FPS, threshold: float = THRESHOLD) -> list[int]:
    """Frames that begin another shot.

    Args:
        frames: (H, W, 3) uint8 RGB, consumed once.
        fps: frame rate.
        threshold: see `CutFinder`.
    """
    finder = CutFinder(fps, threshold)
    for frame in frames:
        finder.feed(frame)
    return finder.cuts


def shots(cuts: Sequence[int], count: int) -> list[tuple[int, int]]:
    """Shots of a video of `count` frames as (first frame, one past the last); one shot without cuts."""
    edges = [0, *cuts, count]
    # A cut at the first frame, or two at one place, would make a shot without frames.
    return [(first, last) for first, last in zip(edges[:-1], edges[1:], strict=True) if last > first]


def _small_bgr(frame: np.ndarray) -> np.ndarray:
    """What PySceneDetect's scene manager hands to its detectors: BGR, the long side scaled to its working width."""
    from scenedetect.scene_manager import compute_downscale_factor

    # The threshold holds for pictures of this size: sharper ones change more from frame to frame.
    factor = compute_downscale_factor(max(frame.shape[:2]))
    if factor > 1.0:
        height, width = (max(1, round(side / factor)) for side in frame.shape[:2])
        frame = cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR)
    return cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
