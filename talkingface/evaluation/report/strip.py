"""A picture strip of one evaluated clip: the same moments of several videos below each other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from talkingface.errors import DataError
from talkingface.media import KeptFrames, write_image

if TYPE_CHECKING:
    from talkingface.faces.track import LandmarkTrack

TILE = 144  # pixels, side of one picture
LABEL_WIDTH = 96
MARGIN = 0.1  # of the face box, on every side


def write_strip(
    videos: Mapping[str, Path],
    track: LandmarkTrack,
    output: Path,
    fps: float,
    moments: int = 6,
    kept: KeptFrames | None = None,
) -> None:
    """Write a PNG: one row per video, one column per moment.

    The moments run from the most closed to the widest open mouth of the real video, so that a mouth that does not
    follow shows at a glance.

    Args:
        videos: label -> file; frames are counted at `fps`.
        track: landmarks of the real video; they choose the moments and the part of the picture.
        output: PNG to write.
        fps: frame rate of the track.
        moments: number of columns.
        kept: memory for decoded videos: what was kept there is not decoded again.
    """
    kept = kept or KeptFrames(0)
    try:
        order = track.opening()
    except DataError:  # boxes without landmarks: the moments are spread over the clip
        order = np.where(track.valid, np.arange(len(track)), np.nan)
    chosen = pick_moments(order, moments)
    box = view(track, chosen)
    rows = []
    for label, path in videos.items():
        # One pass over each video: seeking to single frames would decode the same stretches again and again.
        wanted = dict.fromkeys(chosen)
        for index, frame in enumerate(kept.frames(path, fps, stop=max(chosen) + 1)):
            if index in wanted:
                wanted[index] = tile(frame, box)
        # A video that is shorter than the real one has no picture for late moments.
        blank = np.zeros((TILE, TILE, 3), np.uint8)
        tiles = [wanted[index] if wanted[index] is not None else blank for index in chosen]
        rows.append(np.concatenate([label_tile(label), *tiles], axis=1))
    output.parent.mkdir(parents=True, exist_ok=True)
    write_image(output, np.concatenate(rows))


def pick_moments(opening: np.ndarray, moments: int) -> list[int]:
    """Frames at evenly spaced ranks of mouth opening, most closed first; frames without a face do not count."""
    order = [int(i) for i in np.argsort(opening, kind="stable") if np.isfinite(opening[i])]
    ranks = np.linspace(0, len(order) - 1, min(moments, len(order))).round().astype(int)
    return [order[rank] for rank in ranks]


def view(track: LandmarkTrack, frames: list[int]) -> tuple[int, int, int, int]:
    """The square part of the picture (x1, y1, x2, y2) that holds the face in all these frames."""
    points = track.points_px[frames].reshape(-1, track.points_px.shape[-1])[:, :2]
    low, high = np.nanmin(points, axis=0), np.nanmax(points, axis=0)
    side = (1 + 2 * MARGIN) * float((high - low).max())
    height, width = track.size
    # A face that fills the picture leaves no room for the margin.
    side = min(side, height, width)
    centre = (low + high) / 2
    x1 = int(np.clip(centre[0] - side / 2, 0, width - side))
    y1 = int(np.clip(centre[1] - side / 2, 0, height - side))
    return x1, y1, x1 + int(side), y1 + int(side)


def tile(frame: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """The boxed part of a frame (H, W, 3) uint8 at `TILE` pixels."""
    x1, y1, x2, y2 = box
    part = frame[y1:y2, x1:x2]
    shrinks = part.shape[0] > TILE
    return cv2.resize(part, (TILE, TILE), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def label_tile(label: str) -> np.ndarray:
    """(TILE, LABEL_WIDTH, 3) uint8: the label, one word per line."""
    picture = np.full((TILE, LABEL_WIDTH, 3), 24, np.uint8)
    words = label.split()
    for line, word in enumerate(words):
        y = TILE // 2 + 18 * line - 9 * (len(words) - 1) + 4
        cv2.putText(picture, word, (8, y), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (235, 235, 235), 1, cv2.LINE_AA)
    return picture
