"""The 131 landmarks that IPLAP reads of a clip, and the small file that spares every later start the whole mesh."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from talkingface.errors import DataError, OutputError
from talkingface.faces.crop import CropConfig, face_boxes, relative_landmarks
from talkingface.faces.mesh import IPLAP_ORDER
from talkingface.files import atomic_output
from talkingface.stored.arrays import Wanted, read_npz

if TYPE_CHECKING:
    from talkingface.clips.folder import ClipFolder
    from talkingface.faces.track import LandmarkTrack

POINTS_FILE = "landmarks131.npz"
_ARRAYS = {
    "points_px": Wanted("f", ("frames", len(IPLAP_ORDER), 2)),
    "valid": Wanted("b", ("frames",)),
    "found": Wanted("b", ("frames",)),
    "size": Wanted("iu", (2,)),
    "origin": Wanted("U", ()),
}


class MeshPoints(NamedTuple):
    """The points in pixels, whatever the crop.

    Attributes:
        points_px: (F, 131, 2) float32, network order; NaN where there is no face.
        valid: (F,) bool, frames with a face.
        found: (F,) bool, those in which it was detected, not bridged.
        size: height and width of the frames.
    """

    points_px: np.ndarray
    valid: np.ndarray
    found: np.ndarray
    size: tuple[int, int]


class ClipPoints(NamedTuple):
    """Landmarks of a clip as the networks see them.

    Attributes:
        relative: (F, 2, 131) float32, relative to the face box, network order; 0 where there is no face.
        boxes: (F, 4) float32 in pixels of the source.
        valid: (F,) bool, frames with a face.
        found: (F,) bool, those in which it was detected, not bridged: only they show what a reference must show.
    """

    relative: np.ndarray
    boxes: np.ndarray
    valid: np.ndarray
    found: np.ndarray


def clip_points(track: LandmarkTrack | MeshPoints, crop: CropConfig, boxes: np.ndarray | None = None) -> ClipPoints:
    """Select the 131 points of a track and make them relative to the face boxes.

    Args:
        track: face-mesh landmarks, or the points already selected.
        crop: how boxes are made.
        boxes: (F, 4) boxes to use instead, for example smoothed ones.

    Raises:
        DataError: the landmarks are not face-mesh points.
    """
    mesh = track if isinstance(track, MeshPoints) else select_points(track)
    if boxes is None:
        boxes = face_boxes(mesh.points_px, mesh.size, crop)
    valid = mesh.valid & np.isfinite(boxes).all(axis=1)
    relative = np.where(valid[:, None, None], relative_landmarks(mesh.points_px, boxes), np.float32(0))
    return ClipPoints(relative.astype(np.float32), boxes, valid, mesh.found & valid)


def select_points(track: LandmarkTrack) -> MeshPoints:
    """The 131 points of a face mesh.

    Raises:
        DataError: the landmarks are not face-mesh points.
    """
    if track.layout != "mediapipe478":
        raise DataError(
            f"IPLAP needs face-mesh landmarks, these are '{track.layout}' (from {track.provider or 'unknown'});"
            " preprocess with --preprocess.landmarks.provider=mediapipe"
        )
    points = track.points_px[:, list(IPLAP_ORDER), :2].astype(np.float32)
    return MeshPoints(points, track.valid, track.found, track.size)


def stored_points(clip: ClipFolder) -> MeshPoints:
    """The 131 points of a prepared clip.

    They are kept in the clip's folder beside the landmarks, a fifth of their size, and made anew when those change.
    Where the folder cannot be written, every start reads the whole mesh.
    """
    path, origin = clip.path / POINTS_FILE, _origin(clip)
    with suppress(DataError):
        stored = read_npz(path, _ARRAYS)
        height, width = stored["size"].tolist()
        far = not (np.abs(stored["points_px"][stored["valid"]]) < np.inf).all()
        if str(stored["origin"]) == origin and not far and min(height, width) > 0:
            clip.check_rows(path, len(stored["valid"]))
            return MeshPoints(stored["points_px"], stored["valid"], stored["found"], (height, width))
    points = select_points(clip.track())
    with suppress(OutputError):
        _save(path, points, origin)
    return points


def _origin(clip: ClipFolder) -> str:
    """What the landmarks file is: its fingerprint where preprocessing noted one, size and time of the file anyway."""
    try:
        stat = (clip.path / clip.files("landmarks")[0]).stat()
    except OSError:
        return ""  # `ClipFolder.track` says what is missing
    return f"{clip.record('landmarks').get('fingerprint', '')} {stat.st_size} {stat.st_mtime_ns}"


def _save(path: Path, points: MeshPoints, origin: str) -> None:
    # Processes of one training may write it at once; each has a temporary file of its own.
    with atomic_output(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **points._asdict(), origin=origin)
