"""Facial landmarks of a clip: detectors behind one small interface, and the track they make.

`track_faces` follows one face through the frames and bridges short gaps. The detectors are in `detectors.py`; a
`LandmarkTrack` on disk needs none of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from talkingface.errors import DataError, NoFaceError
from talkingface.faces import mesh as facemesh
from talkingface.faces.follow import Follower, Pick
from talkingface.faces.gaps import EDGE, GapBridge, fill_in
from talkingface.sound.rows import held_at
from talkingface.stored.arrays import Wanted, read_npz
from talkingface.stored.regular import REMEDY

Layout = Literal["mediapipe478", "ibug68", "box"]
RIVALS_SHARE = 0.1  # of the frames with two faces of like size, from which on that is said: fewer are passers-by
MAX_FACES = 4  # looked for in a frame, so that the largest or the tracked one can be picked; costs next to nothing

_LONGEST_SIDE = 32767  # pixels
_FARTHEST = 10  # sides of the frame by which a point may lie outside: of a face at its edge, some do
_POINTS = {"box": (2,), "ibug68": (68,), "mediapipe478": (468, 478)}  # by layout
_ARRAYS = {
    "points_px": Wanted("f", ("frames", "points", 2)),
    "found": Wanted("b", ("frames",)),
    "valid": Wanted("b", ("frames",)),
    "size": Wanted("iu", (2,)),
    "layout": Wanted("U", ()),
    "provider": Wanted("U", ()),
    "version": Wanted("U", ()),
    "depth_px": Wanted("f", ("frames", "points")),
    "faces_seen": Wanted("iu", ("frames",)),
}


class LandmarkProvider(Protocol):
    """A landmark detector.

    Attributes:
        name: as in the configuration.
        version: of the package or model; recorded with the landmarks.
        layout: meaning of the points; `box` is the two corners of a box.

    One that misses small faces in large pictures says so by `short_range = True` (see `zoom.py`).
    One that is faster on several frames at once also has `batch`, how many it likes to get, and
    `detect_batch(frames)`, which gives what `detect` gives for each of them.
    """

    name: str
    version: str
    layout: Layout

    def detect(self, frame: np.ndarray) -> list[np.ndarray]:
        """Landmarks of every face in a frame (H, W, 3) uint8 RGB: (K, 2 or 3) float32 pixels, third column depth."""
        ...


class Rivals(NamedTuple):
    """A second face beside the chosen one.

    Attributes:
        share: of the frames in which another face of like size was seen.
        side: `left` or `right`, where the chosen face stood; empty when there was no other.
    """

    share: float
    side: str


@dataclass
class LandmarkTrack:
    """Landmarks of one face through a clip.

    Attributes:
        points_px: (F, K, 2) float32 pixels; NaN where the face is missing and the gap too long to bridge.
        found: (F,) bool, frames in which the face was detected.
        valid: (F,) bool, frames with points: detected or interpolated.
        size: height and width of the frames.
        layout: `mediapipe478`, `ibug68`, or `box`: the upper left and the lower right corner of the face box.
        provider: name of the detector.
        version: its version.
        depth_px: (F, K) float32 depth in pixels, growing towards the viewer, or None.
        faces_seen: (F,) number of faces detected in each frame, or None where it was not counted (tracks written before
            it was recorded, or made from other files).
        rivals: what is known of a second person; None where nobody looked. It is not stored.
    """

    points_px: np.ndarray
    found: np.ndarray
    valid: np.ndarray
    size: tuple[int, int]
    layout: Layout = "mediapipe478"
    provider: str = ""
    version: str = ""
    depth_px: np.ndarray | None = None
    faces_seen: np.ndarray | None = None
    rivals: Rivals | None = None

    def __len__(self) -> int:
        return len(self.points_px)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an npz file."""
        arrays: dict[str, Any] = {
            "points_px": self.points_px.astype(np.float32),
            "found": self.found,
            "valid": self.valid,
            "size": np.array(self.size, np.int32),
            "layout": np.array(self.layout),
            "provider": np.array(self.provider),
            "version": np.array(self.version),
        }
        if self.depth_px is not None:
            arrays["depth_px"] = self.depth_px.astype(np.float16)  # 1/16 px at 100 px of depth, half the room
        if self.faces_seen is not None:
            arrays["faces_seen"] = self.faces_seen.astype(np.uint8)
        with Path(path).open("wb") as stream:
            np.savez(stream, **arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LandmarkTrack:
        """Read what `save` wrote.

        Raises:
            DataError: the file is missing or damaged.
        """
        stored = read_npz(path, _ARRAYS, optional=("depth_px", "faces_seen"))
        height, width = (int(side) for side in stored["size"])
        depth = stored.get("depth_px")
        track = cls(
            points_px=stored["points_px"],
            found=stored["found"],
            valid=stored["valid"],
            size=(height, width),
            layout=str(stored["layout"]),  # type: ignore[arg-type]
            provider=str(stored["provider"]),
            version=str(stored["version"]),
            depth_px=None if depth is None else depth.astype(np.float32),
            faces_seen=stored.get("faces_seen"),
        )
        if problem := track._problem():
            raise DataError(f"{path}: {problem}; {REMEDY}")
        return track

    def _problem(self) -> str:
        """What cannot be right about a track from a file; empty where all can."""
        points = self.points_px.shape[1]
        if points not in _POINTS.get(self.layout, ()):
            return f"holds {points} points, which are not '{self.layout[:20]}'"
        if not all(1 <= side <= _LONGEST_SIDE for side in self.size):
            return f"a frame of {self.size[1]} x {self.size[0]} pixels is none"
        # NaN is a point that is not known; it fails no comparison.
        if (np.abs(self.points_px) > _FARTHEST * max(self.size)).any():
            return "holds points far outside the frame"
        return ""

    def opening(self) -> np.ndarray:
        """(F,) mouth opening: distance of the inner lips over the height of the face; NaN without a face.

        The face height runs from forehead (mesh point 10) to chin (152). An unknown forehead is estimated
        by the share that a shorter distance takes on average: brows to chin 0.8 (iBUG points), nose bridge to chin 0.7
        (IP_LAP's points).

        Raises:
            DataError: the provider finds boxes only.
        """
        self.require_points("the mouth opening")
        points = self.points_px[..., :2].astype(np.float64)
        if self.layout == "ibug68":
            lips = points[:, 62] - points[:, 66]
            height = (points[:, 17:27].mean(axis=1) - points[:, 8]) / 0.8
        else:
            lips = points[:, facemesh.INNER_LIP_TOP] - points[:, facemesh.INNER_LIP_BOTTOM]
            bridge = (points[:, 168] - points[:, facemesh.CHIN]) / 0.7
            height = points[:, facemesh.FOREHEAD] - points[:, facemesh.CHIN]
            height = np.where(np.isnan(height), bridge, height)
        return np.linalg.norm(lips, axis=-1) / np.maximum(np.linalg.norm(height, axis=-1), 1e-6)

    def ibug68(self, depth: bool = False) -> np.ndarray:
        """(F, 68, 2) float32 iBUG points in pixels: the points themselves, or picked from the mesh.

        Args:
            depth: give (F, 68, 3), the depth growing towards the viewer.

        Raises:
            DataError: the provider finds boxes only, or depth is asked of one that finds none.
        """
        self.require_points("68 landmarks")
        points = self.points_px[..., :2]
        if depth:
            if self.depth_px is None:
                raise DataError(f"landmarks of '{self.provider or 'a file'}' have no depth; mediapipe finds it")
            points = np.concatenate([points, self.depth_px[..., None]], axis=-1)
        return (points if self.layout == "ibug68" else facemesh.to_ibug68(points)).astype(np.float32)

    def at(self, times: np.ndarray, fps: float = 25.0, depth: bool = False) -> np.ndarray:
        """IBUG points (n, 68, 2 or 3) in pixels at times (n,) in seconds, the ends held; NaN beside a missing face.

        Args:
            times: seconds; frame k stands for k / fps.
            fps: frame rate of the track.
            depth: see `ibug68`.
        """
        return held_at(self.ibug68(depth), np.asarray(times, np.float64) * fps)

    @property
    def has_points(self) -> bool:
        """Whether there are landmarks, not boxes alone."""
        return self.layout != "box"

    def require_points(self, what: str) -> None:
        """Raise a `DataError` that says why `what` cannot be had, unless there are landmarks."""
        if not self.has_points:
            raise DataError(
                f"{what} cannot be had from '{self.provider or 'box'}', which finds face boxes only; use"
                " preprocess.landmarks.provider=mediapipe (and preprocess again)"
            )

    def slice(self, start: int, stop: int) -> LandmarkTrack:
        """The frames start to stop (half-open)."""
        part = slice(start, stop)
        return replace(
            self,
            points_px=self.points_px[part],
            found=self.found[part],
            valid=self.valid[part],
            depth_px=None if self.depth_px is None else self.depth_px[part],
            faces_seen=None if self.faces_seen is None else self.faces_seen[part],
        )


def tight_boxes(track: LandmarkTrack) -> np.ndarray:
    """(F, 4) boxes x1, y1, x2, y2 in pixels around all landmarks, inside the frame; NaN without a face."""
    points = track.points_px[..., :2].astype(np.float64)
    height, width = track.size
    boxes = np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)
    return np.clip(boxes, 0.0, [width, height, width, height])


def track_faces(
    frames: Iterable[np.ndarray],
    provider: LandmarkProvider,
    pick: Pick = "tracked",
    max_gap: int = 25,
) -> LandmarkTrack:
    """Landmarks of one face through a clip, from one pass over its frames.

    Args:
        frames: (H, W, 3) uint8 RGB, consumed once.
        provider: the detector.
        pick: `tracked` starts with the largest face and stays with the one that overlaps the last one, until a cut, or
            until it has been gone for more than `max_gap` frames; `largest` takes the largest face of each frame, which
            may be another person every time; `first` takes the detector's first, which is the surest one of `s3fd` (as
            Wav2Lip does).
        max_gap: longest run of frames without a face, in frames, that is bridged where the picture goes on (see
            `gaps.py`): linearly between two detections, by the nearest one for a few frames at the ends of the clip.

    Raises:
        NoFaceError: there are no frames, or no face in any of them.
    """
    chosen: list[np.ndarray | None] = []
    seen: list[int] = []
    follower, bridge = Follower(pick, max_gap), GapBridge(max_gap)
    size = (0, 0)
    for frame, faces in _detections(frames, provider):
        size = (frame.shape[0], frame.shape[1])
        seen.append(len(faces))
        chosen.append(follower.choose(frame, faces))
        bridge.feed(frame, chosen[-1])
    bridge.close()
    found = np.array([face is not None for face in chosen], dtype=bool)
    if not found.any():
        raise NoFaceError(f"no face found in any of {len(chosen)} frames" if chosen else "the video has no frames")
    shape = next(face.shape for face in chosen if face is not None)
    points = np.full((len(chosen), *shape), np.nan, dtype=np.float32)
    for index in np.flatnonzero(found):
        points[index] = chosen[index]
    valid = fill_in(points, found, bridge)
    depth = np.ascontiguousarray(points[..., 2]) if shape[1] > 2 else None
    return LandmarkTrack(
        points_px=np.ascontiguousarray(points[..., :2]),
        found=found,
        valid=valid,
        size=size,
        layout=provider.layout,
        provider=provider.name,
        version=provider.version,
        depth_px=depth,
        faces_seen=np.array(seen, np.uint8),
        rivals=Rivals(float(np.mean(follower.alike)), follower.side),
    )


def _detections(
    frames: Iterable[np.ndarray], provider: LandmarkProvider
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """Every frame with its faces, in order; a provider with `detect_batch` gets `batch` frames at once."""
    together = getattr(provider, "detect_batch", None)
    if together is None:
        yield from ((frame, provider.detect(frame)) for frame in frames)
        return
    remaining = iter(frames)
    while group := list(islice(remaining, provider.batch)):
        yield from zip(group, together(group), strict=True)


def fill_gaps(points: np.ndarray, found: np.ndarray, max_gap: int) -> np.ndarray:
    """Bridge gaps of at most `max_gap` frames in `points` (F, K, D), in place; returns which frames have points.

    For tracks without pictures; where there are some, `gaps.bridge_gaps` looks at them.
    """
    valid = found.copy()
    known = np.flatnonzero(found)
    if not len(known):
        return valid
    edges = np.concatenate([[-1], known, [len(found)]])  # gaps lie between neighbours, also at both ends
    for before, after in zip(edges[:-1], edges[1:], strict=True):
        gap = after - before - 1
        at_end = before < 0 or after == len(found)
        if not 0 < gap <= (min(max_gap, EDGE) if at_end else max_gap):
            continue
        if at_end:
            points[before + 1 : after] = points[after if before < 0 else before]  # one neighbour alone: held
        else:
            share = (np.arange(1, gap + 1) / (gap + 1)).astype(points.dtype)[:, None, None]
            points[before + 1 : after] = points[before] * (1 - share) + points[after] * share
        valid[before + 1 : after] = True
    return valid
