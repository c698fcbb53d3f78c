"""Preprocessing of MakeItTalk: landmarks of a clip in the canonical space, and its head crops.

`faces68` holds the faces of every video frame twice: registered to the canonical face, and as the head moves them,
both in units of the distance between the outer eye corners. `heads@SIZE` holds square crops of the head at one place
for the whole clip. Sources: docs/makeittalk.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from talkingface.clips.face_store import FaceWriter
from talkingface.clips.folder import default_file
from talkingface.config.sections import Config, PreprocessConfig
from talkingface.errors import MediaError
from talkingface.faces.ibug68 import eye_distances
from talkingface.faces.rigid import T_SHAPE, register
from talkingface.faces.smoothing import smooth_rows
from talkingface.faces.track import LandmarkTrack, fill_gaps
from talkingface.files import file_sha256
from talkingface.models.makeittalk.assets import CANONICAL_FILE, read_canonical
from talkingface.models.makeittalk.canonical import canonical_face
from talkingface.preprocess.step import Rejected, Step, register_step

if TYPE_CHECKING:
    from talkingface.preprocess.step import ClipContext

FOLDER = "MakeItTalk"
MARGIN = 1.7
"""Side of a head crop in heights of the face."""

_BROWS_TO_CHIN = 0.8  # of the height of a face
_CHIN = 8


def canonical_of(kind: str, weights_dir: str | Path) -> np.ndarray:
    """The face (68, 3) that all are registered to: `own`, or the imported one.

    Raises:
        DataError: the imported one is not there.
    """
    return canonical_face() if kind == "own" else read_canonical(Path(weights_dir) / FOLDER / CANONICAL_FILE)


def canonical_faces(track: LandmarkTrack, canonical: np.ndarray, window: int, max_gap: int) -> np.ndarray:
    """Faces of a clip in units of the eye distance.

    Args:
        track: its landmarks; without depth the canonical face lends its own.
        canonical: (68, 3).
        window: frames over which they are smoothed.
        max_gap: frames without a face that are bridged.

    Returns:
        (F, 2, 68, 3) float32: registered, and centred with the motion of the head kept; NaN without a face.
    """
    points = _with_depth(track, canonical).astype(np.float64)
    points[~track.found] = np.nan
    valid = fill_gaps(points, track.found, max_gap)
    faces = np.full((len(points), 2, 68, 3), np.nan, np.float32)
    if not valid.any():
        return faces
    for run in _runs(valid):
        points[run] = smooth_rows(points[run], window)
    points /= np.median(eye_distances(points[valid]))
    stable = list(T_SHAPE)
    moving = points[valid] - points[valid][:, stable].mean(axis=(0, 1)) + canonical[stable].mean(axis=0)
    faces[valid, 0] = register(points[valid], canonical)[0]
    faces[valid, 1] = moving
    return faces


def _with_depth(track: LandmarkTrack, canonical: np.ndarray) -> np.ndarray:
    if track.depth_px is not None:
        return track.ibug68(depth=True)
    flat = track.ibug68()
    depth = eye_distances(flat)[:, None] * canonical[:, 2]
    return np.concatenate([flat, depth[..., None]], axis=-1)


def _runs(valid: np.ndarray) -> list[slice]:
    """Stretches of frames with a face."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], valid, [False]]).astype(np.int8)))
    return [slice(first, stop) for first, stop in edges.reshape(-1, 2)]


def face_height(face: np.ndarray) -> float:
    """Height of a face (68, 2 or 3), from the forehead to the chin."""
    return float(np.linalg.norm(face[17:27, :2].mean(axis=0) - face[_CHIN, :2]) / _BROWS_TO_CHIN)


def face_centre(face: np.ndarray) -> np.ndarray:
    """Middle (2,) between forehead and chin."""
    chin = face[_CHIN, :2]
    return chin + (face[17:27, :2].mean(axis=0) - chin) / _BROWS_TO_CHIN / 2


def head_box(faces: np.ndarray) -> np.ndarray:
    """One square (4,) x1, y1, x2, y2 around the heads (F, 68, 2) of a clip, none of them NaN; may leave the frame."""
    middle = np.median([face_centre(face) for face in faces], axis=0)
    half = MARGIN * float(np.median([face_height(face) for face in faces])) / 2
    return np.concatenate([middle - half, middle + half])


def crop_head(frame: np.ndarray, box: np.ndarray, size: int) -> np.ndarray:
    """The square of a frame as (size, size, 3) uint8; beyond the frame its edge goes on."""
    # A head that shrinks is cut out larger and averaged: thin things would flicker otherwise.
    times = max(1, round((box[2] - box[0]) / size))
    side = times * size
    crop = cv2.warpAffine(frame, to_crop(box, side), (side, side), borderMode=cv2.BORDER_REPLICATE)
    return crop if times == 1 else cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA)


def to_crop(box: np.ndarray, size: int) -> np.ndarray:
    """(2, 3) matrix from pixels of the frame to those of the crop."""
    scale = size / float(box[2] - box[0])
    # Pixel centres lie at whole numbers.
    return np.array([[scale, 0, (0.5 - box[0]) * scale - 0.5], [0, scale, (0.5 - box[1]) * scale - 0.5]])


@register_step("faces68")
class CanonicalFacesStep(Step):
    """Landmarks in the canonical space, at the rate of the video."""

    needs = ("landmarks",)

    def __init__(self, artefact: str, overrides: Mapping[str, Any], settings: PreprocessConfig) -> None:
        super().__init__(artefact, overrides, settings)
        self.weights_dir = "checkpoints"

    @classmethod
    def defaults(cls, settings: PreprocessConfig) -> dict[str, Any]:
        """Canonical face, smoothing in frames, longest gap in frames."""
        return {"canonical": "own", "smooth": 7, "max_gap": 5}

    def bind(self, config: Config) -> None:
        """Take where the imported face lies, and note which it is."""
        self.weights_dir = config.weights_dir
        if self.params["canonical"] == "published":
            canonical_of("published", config.weights_dir)
            self.params["canonical_sha256"] = file_sha256(Path(config.weights_dir) / FOLDER / CANONICAL_FILE)

    def run(self, ctx: ClipContext) -> Iterable[str]:
        """Write the faces (F, 2, 68, 3) float32."""
        canonical = canonical_of(self.params["canonical"], self.weights_dir)
        faces = canonical_faces(ctx.clip.track(), canonical, self.params["smooth"], self.params["max_gap"])
        if not np.isfinite(faces).any():
            raise Rejected("no frame with landmarks")
        ctx.facts |= {"rows_per_second": ctx.fps, "first_row": 0.0}
        name = default_file(self.artefact)
        np.save(ctx.scratch / name, faces)
        return [name]


@register_step("heads")
class HeadsStep(Step):
    """Head crops of every frame, packed like face crops, at one place for the whole clip."""

    needs = ("landmarks",)
    reads_video = True

    @classmethod
    def defaults(cls, settings: PreprocessConfig) -> dict[str, Any]:
        """Side in pixels, and how the crops are stored."""
        return {"size": 256, "margin": MARGIN, "storage": settings.storage, "jpeg_quality": settings.jpeg_quality}

    def run(self, ctx: ClipContext) -> Iterable[str]:
        """Write the crops and their index."""
        track = ctx.clip.track()
        if not track.valid.any():
            raise Rejected("no frame with landmarks")
        box, size = head_box(track.ibug68()[track.valid]), self.params["size"]
        boxes = np.where(track.valid[:, None], box, np.nan).astype(np.float32)
        writer = FaceWriter(ctx.scratch, self.artefact, self.params["storage"], self.params["jpeg_quality"])
        count = 0
        for count, frame in enumerate(ctx.frames(), start=1):
            if count <= len(boxes):
                writer.add(crop_head(frame, box, size) if track.valid[count - 1] else None)
        if count != len(boxes):
            raise MediaError(f"{ctx.item.video}: {count} frames, but landmarks of {len(boxes)}; preprocess with force")
        return writer.close(boxes, {"size": size, "frame_hw": list(track.size)}, track.found)
