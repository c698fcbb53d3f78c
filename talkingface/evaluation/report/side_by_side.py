"""Videos beside each other, each under its caption."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice, zip_longest
from pathlib import Path

import cv2
import numpy as np

from talkingface.media import KeptFrames, VideoWriter, WriteBehind, synthetic_comment

CAPTION_HEIGHT = 24


def write_side_by_side(
    videos: Mapping[str, Path],
    output: Path,
    fps: float,
    audio: np.ndarray | None = None,
    *,
    max_height: int | None = None,
    max_seconds: float | None = None,
    crf: int = 18,
    preset: str = "medium",
    kept: KeptFrames | None = None,
) -> None:
    """Write videos beside each other with a caption above each, as long as the shortest; streams.

    Args:
        videos: caption -> file; all are scaled to the height of the first.
        output: the video to write.
        fps: its frame rate.
        audio: (n,) mono 16 kHz to mux.
        max_height: of a picture without its caption, in pixels; larger ones are made smaller.
        max_seconds: where to stop.
        crf: quality of the encoder, lower is better.
        preset: effort of x264.
        kept: memory for decoded videos: what was kept there is not decoded again.
    """
    kept = kept or KeptFrames(0)
    readers = [kept.frames(path, fps) for path in videos.values()]
    most = None if max_seconds is None else max(1, round(max_seconds * fps))
    comment = synthetic_comment(", ".join(videos))
    with WriteBehind(VideoWriter(output, fps=fps, audio=audio, crf=crf, preset=preset, comment=comment)) as writer:
        # `zip_longest`, not `zip`: a video of another length shows up as None, and the film ends there, for all.
        for frames in islice(zip_longest(*readers), most):
            if any(frame is None for frame in frames):
                break
            height = min(frames[0].shape[0], max_height or frames[0].shape[0])
            panels = [captioned(frame, title, height) for title, frame in zip(videos, frames, strict=True)]
            writer.write(np.concatenate(panels, axis=1))


def captioned(frame: np.ndarray, title: str, height: int) -> np.ndarray:
    """The frame scaled to `height`, with a dark strip and its title on top: (height + strip, W, 3) uint8 RGB."""
    if frame.shape[0] != height:
        width = max(1, round(frame.shape[1] * height / frame.shape[0]))
        frame = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
    strip = np.full((CAPTION_HEIGHT, frame.shape[1], 3), 24, np.uint8)
    font = cv2.FONT_HERSHEY_SIMPLEX
    (width, _), _ = cv2.getTextSize(title, font, 0.5, 1)
    # Long titles shrink to the width of their picture.
    scale = 0.5 * min(1.0, (frame.shape[1] - 12) / width)
    cv2.putText(strip, title, (6, 17), font, scale, (235, 235, 235), 1, cv2.LINE_AA)
    return np.concatenate([strip, frame])
