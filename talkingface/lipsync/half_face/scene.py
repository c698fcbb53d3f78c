"""Where the face is in every frame of a video, and which of its frames lend others their face."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from talkingface.clips.references import lenders
from talkingface.errors import MediaError, NoFaceError
from talkingface.faces.boxes import padded_boxes, smoothed_boxes
from talkingface.faces.crop import crop_face, face_boxes

if TYPE_CHECKING:
    from talkingface.clips.source import Source
    from talkingface.faces.track import LandmarkTrack
    from talkingface.lipsync.half_face.config import HalfFaceConfig


@dataclass
class Scene:
    """Where the face is in every frame of a video.

    Attributes:
        boxes: (F, 4) x1, y1, x2, y2 in pixels; NaN where there is no face.
        valid: (F,) bool, frames with a box.
        found: (F,) bool, those whose face was detected, not bridged: only they show what a reference must show.
        track: the landmarks, None where the user gave the box.
    """

    boxes: np.ndarray
    valid: np.ndarray
    found: np.ndarray
    track: LandmarkTrack | None

    @classmethod
    def look(cls, config: HalfFaceConfig, source: Source, box: tuple[int, ...] | None = None) -> Scene:
        """Face boxes of a source, padded and smoothed; a `box` (top, bottom, left, right) is taken as it is."""
        settings = config.inference
        if box is not None:
            boxes = np.tile(_given_box(box, source), (len(source), 1))
            everywhere = np.ones(len(source), bool)
            return cls(boxes, everywhere, everywhere, None)
        track = source.landmarks()
        boxes = padded_boxes(face_boxes(track.points_px, track.size, config.crop), settings.pads, track.size)
        boxes[~track.valid] = np.nan
        valid = np.isfinite(boxes).all(axis=1)
        if not valid.any():
            raise NoFaceError(f"{source.path}: no face found in any of its {len(valid)} frames")
        return cls(smoothed_boxes(boxes, valid, settings.smooth), valid, valid & track.found, track)

    @property
    def knows_mouths(self) -> bool:
        """Whether the detector found more than boxes."""
        return self.track is not None and self.track.layout in ("mediapipe478", "ibug68")

    def typical(self, frames: np.ndarray) -> int:
        """Of `frames`, the one whose mouth opening is the median one; the first where only boxes are known."""
        if not self.knows_mouths:
            return int(frames[0])
        opening = self.track.opening()[frames]
        return int(frames[np.argsort(opening, kind="stable")[(len(frames) - 1) // 2]])


def _given_box(box: tuple[int, ...], source: Source) -> np.ndarray:
    top, bottom, left, right = box
    height, width = source.size
    if not (0 <= top < bottom <= height and 0 <= left < right <= width):
        raise MediaError(
            f"{source.path}: inference.box {list(box)} (top, bottom, left, right) does not lie in its frames of"
            f" {width} x {height} pixels"
        )
    return np.array([left, top, right, bottom], np.float64)


class Reference(NamedTuple):
    """A reference face (S, S, 3) uint8 RGB and the frames (F,) bool of the source it serves."""

    serves: np.ndarray
    face: np.ndarray


def choose_references(config: HalfFaceConfig, source: Source, scene: Scene) -> list[Reference]:
    """Reference faces of a source; none where every frame is its own reference.

    A source that is compared with itself (`held_out`) never lends a frame its own mouth; see `lenders`.
    """
    policy, origin = config.inference.reference, source.reference or source
    if policy == "same" and origin is source and not source.held_out:
        return []
    other = scene if origin is source else Scene.look(config, origin)
    groups = lenders(source, scene.found, None if origin is source else other.found)
    return [Reference(group.serves, _reference_face(config, origin, other, group.candidates)) for group in groups]


def _reference_face(config: HalfFaceConfig, origin: Source, scene: Scene, frames: np.ndarray) -> np.ndarray:
    """The reference face among some frames of a video; without any it shows no mouth."""
    size, alone = config.crop.size, not len(frames)
    frames = np.flatnonzero(scene.found) if alone else frames
    index = int(frames[0]) if config.inference.reference == "first" else scene.typical(frames)
    face = crop_face(next(iter(origin.read([index]))), scene.boxes[index], size)
    if alone:  # no frame but those to be redrawn: what is hidden in them stays hidden
        face[size // 2 :] = 0
    return face


def with_references(faces: np.ndarray, references: list[Reference], frames: np.ndarray) -> np.ndarray:
    """The reference (m, S, S, 3) of each face (m, S, S, 3) of the source's `frames` (m,); without any, itself."""
    shown = faces.copy()
    for reference in references:
        shown[reference.serves[frames]] = reference.face
    return shown
