"""Landmarks as text: one line per frame, 204 numbers, usually behind the number of the frame."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from talkingface.clips.dump_tree import TextClip
from talkingface.errors import DataError
from talkingface.faces.ibug68 import POINTS
from talkingface.faces.track import LandmarkTrack
from talkingface.media import FPS, SAMPLE_RATE
from talkingface.models.makeittalk.dumps.repairs import in_eye_distances, with_depth, without_holes
from talkingface.models.makeittalk.motion import ROWS_PER_SECOND
from talkingface.models.makeittalk.networks.pieces import FACE
from talkingface.preprocess.step import Rejected
from talkingface.sound.rows import held_at
from talkingface.stored.regular import read_bytes

MAX_GAP = 5
"""Frames without a face that are bridged."""

_MOST_BYTES = 2**28
_SPARSE = 1000  # frames, beyond which most must have a line
_OFF, _OFF_FRAMES = 0.04, 3  # by which lines may be more than the sound lasts
_PIXELS = 100.0  # eye distance of faces that come in other units: landmarks are stored in pixels


class TextTrack(NamedTuple):
    """Landmarks of a clip and what had to be done to them, in words."""

    track: LandmarkTrack
    repairs: list[str]


def read_track(clip: TextClip, canonical: np.ndarray, samples: int) -> TextTrack:
    """The landmarks of a clip at 25 frames per second.

    Args:
        clip: its files.
        canonical: (68, 3), lends its depth where the file has none.
        samples: length of its sound at 16 kHz.

    Raises:
        Rejected: there are no landmarks, or their rate is neither that of video nor of sound.
        DataError: the file is damaged.
    """
    if not clip.points.is_file():
        raise Rejected(f"no landmarks: {clip.points.name} is not there")
    numbered, holes = _by_frame(clip.points)
    at_rate, rates = _at_video_rate(numbered, samples / SAMPLE_RATE)
    whole, bridged = without_holes(at_rate, MAX_GAP)
    deep, depth = with_depth(whole, canonical)
    size = float(np.nanmedian(np.linalg.norm(deep[:, 45] - deep[:, 36], axis=-1)))
    if size < 10:  # no pixels
        deep = in_eye_distances(deep).faces * _PIXELS
    return TextTrack(_track(deep, np.isfinite(at_rate).all(axis=(1, 2))), [*holes, *rates, *bridged, *depth])


def _by_frame(path: Path) -> tuple[np.ndarray, list[str]]:
    """(F, 68, 3) faces by their frame, NaN where there is no line."""
    read_bytes(path, _MOST_BYTES)  # of a size that can be
    try:
        lines = np.loadtxt(path, ndmin=2, encoding="utf-8", comments=None)
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: no lines of numbers ({' '.join(str(error).split())[:100]})") from None
    if not lines.size or lines.shape[1] not in (FACE, FACE + 1):
        raise DataError(f"{path}: expected {FACE} numbers in a line, behind that of the frame; found {lines.shape}")
    if lines.shape[1] == FACE:
        return lines.reshape(-1, POINTS, 3), []
    frames = lines[:, 0]
    if not np.isfinite(frames).all() or (frames < 0).any() or (frames % 1).any():
        raise DataError(f"{path}: the first number of a line is no frame")
    if frames.max() >= _SPARSE + 10 * len(frames):  # room is made for every frame
        raise DataError(f"{path}: {len(frames)} lines are numbered to {int(frames.max())}")
    faces = np.full((int(frames.max()) + 1, POINTS, 3), np.nan)
    faces[frames.astype(int)] = lines[:, 1:].reshape(-1, POINTS, 3)
    missing = len(faces) - len(np.unique(frames))
    return faces, [f"{missing} frame numbers are missing"] if missing else []


def _at_video_rate(faces: np.ndarray, seconds: float) -> tuple[np.ndarray, list[str]]:
    """Faces 25 times per second; some trees have 62.5 lines per second of a video of 25 frames.

    Fewer lines than the sound lasts are no sign of another rate: the published converter stopped after 10 s.

    Raises:
        Rejected: they are of neither rate.
    """
    rate = len(faces) / max(seconds, 1e-3)
    if len(faces) <= FPS * seconds * (1 + _OFF) + _OFF_FRAMES:
        return faces, []
    if abs(rate / ROWS_PER_SECOND - 1) > _OFF:
        told = f"{len(faces)} lines for {seconds:.2f} s of sound are {rate:.1f} per second"
        raise Rejected(f"{told}, neither {FPS:g} nor {ROWS_PER_SECOND:g}", round(rate, 2), FPS)
    count = int((len(faces) - 1) * FPS / ROWS_PER_SECOND) + 1
    places = np.arange(count) * ROWS_PER_SECOND / FPS
    return held_at(faces, places), [f"{ROWS_PER_SECOND:g} rows per second brought to {FPS:g} frames"]


def _track(faces: np.ndarray, found: np.ndarray) -> LandmarkTrack:
    """The track of faces (F, 68, 3) in pixels, in a picture that is large enough."""
    # What lies left of or above the picture is moved into it; only differences count.
    faces = faces - np.minimum(np.nanmin(faces, axis=(0, 1)) * [1, 1, 0], 0)
    width, height = (max(16, int(np.nanmax(faces[..., axis])) + 1) for axis in (0, 1))
    valid = np.isfinite(faces).all(axis=(1, 2))
    return LandmarkTrack(
        points_px=faces[..., :2].astype(np.float32),
        found=found & valid,
        valid=valid,
        size=(height, width),
        layout="ibug68",
        provider="face_alignment",
        version="imported from MakeItTalk's text files",
        depth_px=faces[..., 2].astype(np.float32),
    )
