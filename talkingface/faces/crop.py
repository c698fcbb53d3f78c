"""Geometry of the face crop: the box around the landmarks, the crop, and the way back into the frame.

One function makes the boxes for preprocessing, training and inference, so that a model always sees faces of the same
scale. Everything here is numpy and OpenCV arithmetic on arrays; nothing detects faces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import cv2
import numpy as np
from pydantic import Field

from talkingface.config.sections import Section
from talkingface.errors import DataError
from talkingface.faces import mesh as facemesh

Blur = tuple[int, float]
Resize = Literal["linear", "cubic", "lanczos"]

ARTEFACT = "faces@"
"""What the names of face crops begin with."""


class CropConfig(Section):
    """How a face is cut out of a frame.

    Attributes:
        size: side of the square crop in pixels (the aspect ratio of the box is not kept).
        margin_mode: `px` adds `margin` pixels on each side, `relative` that share of the box's mean side.
        margin: see `margin_mode`. 5 px on LRS2's 160 px frames is about 5 % of the face.
        box: `frame` is the tight box of each frame. Its lower edge follows the chin, so the landmarks inside the crop
            tell how far the jaw is open. `fixed` moves and scales with the upper face only, by factors constant in the
            clip.
        rule: which points the box encloses: `iplap` the 131 points of IP_LAP, `mesh` all of them.
    """

    size: int = Field(128, ge=16)
    margin_mode: Literal["px", "relative"] = "px"
    margin: float = Field(5.0, ge=0)
    box: Literal["frame", "fixed"] = "frame"
    rule: Literal["iplap", "mesh"] = "iplap"

    @property
    def artefact(self) -> str:
        """Name of the crops in a clip's folder, `faces@128-frame-iplap-relative-0.05`: other settings, other files."""
        return f"{ARTEFACT}{self.size}-{self.box}-{self.rule}-{self.margin_mode}-{self.margin:.12g}"

    @classmethod
    def of_artefact(cls, name: str) -> CropConfig | None:
        """The settings behind a name that `artefact` gave; None for any other name."""
        parts = name.removeprefix(ARTEFACT).split("-", 4)  # the margin comes last: 1e-05 has a hyphen of its own
        if not name.startswith(ARTEFACT) or len(parts) != 5:
            return None
        size, box, rule, margin_mode, margin = parts
        try:
            return cls(size=int(size), box=box, rule=rule, margin_mode=margin_mode, margin=float(margin))
        except ValueError:
            return None

    def differs_from(self, recorded: Mapping[str, Any]) -> str | None:
        """Why crops made with the parameters `recorded` are not this crop, or None; unknown parameters do not count."""
        return cut_otherwise(self.model_dump(), todays_crop(recorded))


def cut_otherwise(wanted: Mapping[str, Any], recorded: Mapping[str, Any]) -> str | None:
    """Why crops with the parameters `recorded` are not those `wanted`, or None; what is not recorded does not count."""
    other = [name for name, value in wanted.items() if name in recorded and recorded[name] != value]
    if not other:
        return None
    made, asked = (", ".join(f"{name} {each[name]}" for name in other) for each in (recorded, wanted))
    return f"faces were cut with {made}, the model wants {asked}; run preprocess"


def todays_crop(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a crop as they are recorded today.

    The first converter of Wav2Lip's data noted its detector as rule, and no margin in pixels: boxes as they were found.
    """
    found = {"rule": "mesh", "margin_mode": "relative"} if recorded.get("rule") == "s3fd" else {}
    return {**recorded, **found}


def face_boxes(points_px: np.ndarray, size_hw: tuple[int, int], crop: CropConfig) -> np.ndarray:
    """Boxes around the faces of a clip.

    Args:
        points_px: (F, K, 2 or more) landmarks in pixels; K = 478 or 468 (face mesh), 131 (IP_LAP's points in network
            order) or any other set, of which all points count. Frames without a face are NaN.
        size_hw: height and width of the frames; boxes are clamped to them.
        crop: margin and kind of box.

    Returns:
        (F, 4) float32 x1, y1, x2, y2 in pixels, not rounded; NaN where the landmarks are NaN.
    """
    points = np.asarray(points_px, dtype=np.float64)[..., :2]
    mesh = points.shape[1] >= 468
    used = points[:, list(facemesh.IPLAP_ORDER)] if mesh and crop.rule == "iplap" else points
    boxes = np.concatenate([used.min(axis=1), used.max(axis=1)], axis=1)  # NaN stays NaN
    if crop.box == "fixed":
        boxes = _fixed_boxes(boxes, _upper_face(points))
    margin: float | np.ndarray = crop.margin
    if crop.margin_mode == "relative":
        margin = crop.margin * 0.5 * (boxes[:, 2:] - boxes[:, :2]).sum(axis=1, keepdims=True)
    boxes[:, :2] -= margin
    boxes[:, 2:] += margin
    height, width = size_hw
    return np.clip(boxes, 0.0, [width, height, width, height]).astype(np.float32)


def _upper_face(points: np.ndarray) -> np.ndarray:
    """Points that jaw and lips do not move: (F, 74, 2) of the mesh; brows, nose and eyes of iBUG points."""
    count = points.shape[1]
    if count >= 468:
        return points[:, list(facemesh.IPLAP_POSE)]
    if count == len(facemesh.IPLAP_ORDER):
        return points[:, : len(facemesh.IPLAP_POSE)]
    return points[:, 17:48] if count == 68 else points


def _fixed_boxes(boxes: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Boxes that follow the upper face, with sides large enough for nearly every frame of the clip.

    Distances from the centre of the upper face to the four sides, in units of its spread, are taken at their 98th
    percentile over the clip. A clip of one frame gives its tight box.
    """
    valid = np.isfinite(boxes).all(axis=1)
    if not valid.any():
        return boxes
    centre = upper.mean(axis=1)
    spread = np.sqrt(((upper - centre[:, None]) ** 2).sum(axis=2).mean(axis=1, keepdims=True))
    spread = np.maximum(spread, 1e-6)
    before = np.percentile(((centre - boxes[:, :2]) / spread)[valid], 98, axis=0)
    after = np.percentile(((boxes[:, 2:] - centre) / spread)[valid], 98, axis=0)
    return np.concatenate([centre - before * spread, centre + after * spread], axis=1)


def box_pixels(box: Sequence[float] | np.ndarray, size_hw: tuple[int, int]) -> tuple[int, int, int, int]:
    """Whole pixels of a box: sides truncated as in the published code, inside the frame, at least one pixel wide.

    Raises:
        DataError: the box is not finite (a frame without a face).
    """
    if not np.isfinite(box).all():
        raise DataError("a frame without a face has no face box; skip such frames (see LandmarkTrack.valid)")
    height, width = size_hw
    x1, y1 = min(max(int(box[0]), 0), width - 1), min(max(int(box[1]), 0), height - 1)
    x2, y2 = min(max(int(box[2]), x1 + 1), width), min(max(int(box[3]), y1 + 1), height)
    return x1, y1, x2, y2


def crop_face(frame: np.ndarray, box: Sequence[float] | np.ndarray, size: int) -> np.ndarray:
    """The box of a frame, resized (bilinear) to (size, size, 3) uint8."""
    x1, y1, x2, y2 = box_pixels(box, frame.shape[:2])
    return cv2.resize(frame[y1:y2, x1:x2], (size, size), interpolation=cv2.INTER_LINEAR)


def crop_faces(frames: Sequence[np.ndarray], boxes: np.ndarray, size: int) -> np.ndarray:
    """The faces (k, size, size, 3) uint8 of k frames of any size, each cut out at its box (k, 4)."""
    return np.stack([crop_face(frame, box, size) for frame, box in zip(frames, boxes, strict=True)])


def relative_landmarks(points_px: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Landmarks relative to their (unrounded) boxes.

    Args:
        points_px: (F, K, 2) in pixels.
        boxes: (F, 4) in pixels.

    Returns:
        (F, 2, K) float32, row 0 = x and row 1 = y, 0 to 1 inside the box.
    """
    boxes = np.asarray(boxes, dtype=np.float64)
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-6)
    relative = (np.asarray(points_px, dtype=np.float64)[..., :2] - boxes[:, None, :2]) / sides[:, None]
    return relative.transpose(0, 2, 1).astype(np.float32)


def paste_face(
    frame: np.ndarray,
    face: np.ndarray,
    box: Sequence[float] | np.ndarray,
    mask: np.ndarray | None = None,
    resize: Resize = "linear",
) -> np.ndarray:
    """Put a face back where `crop_face` took it from.

    Args:
        frame: (H, W, 3) uint8; it is not changed.
        face: (S, S, 3) uint8 or float in [0, 255].
        box: the box given to `crop_face`.
        mask: (H, W) uint8 weights of the face (255 = face), see `contour_mask`; None replaces the whole box.
        resize: interpolation from the crop to the box.

    Returns:
        A new frame, equal to the old one outside box and mask.
    """
    x1, y1, x2, y2 = box_pixels(box, frame.shape[:2])
    return paste_weighted(frame, face, box, None if mask is None else mask[y1:y2, x1:x2], resize)


def paste_weighted(
    frame: np.ndarray,
    face: np.ndarray,
    box: Sequence[float] | np.ndarray,
    weights: np.ndarray | None,
    resize: Resize = "linear",
) -> np.ndarray:
    """`paste_face` with weights (h, w) uint8 for the box alone instead of a mask for the frame."""
    x1, y1, x2, y2 = box_pixels(box, frame.shape[:2])
    patch = enlarged_face(face, (y2 - y1, x2 - x1), resize)
    pasted = frame.copy()
    pasted[y1:y2, x1:x2] = patch if weights is None else composite(frame[y1:y2, x1:x2], patch, weights)
    return pasted


def enlarged_face(face: np.ndarray, size_hw: tuple[int, int], resize: Resize = "linear") -> np.ndarray:
    """A face (S, S, 3) uint8, or float in [0, 255], at the size of its box: (h, w, 3) uint8."""
    methods = {"linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC, "lanczos": cv2.INTER_LANCZOS4}
    patch = cv2.resize(np.ascontiguousarray(face), size_hw[::-1], interpolation=methods[resize])
    return patch if patch.dtype == np.uint8 else np.clip(np.rint(patch), 0, 255).astype(np.uint8)


def contour_mask(
    points_px: np.ndarray,
    size_hw: tuple[int, int],
    blur: Blur | None = (21, 11.0),
    kind: Literal["facemesh", "fan68"] = "facemesh",
) -> np.ndarray:
    """Soft mask of the face from jaw to brows.

    Args:
        points_px: (478, 2 or 3) mesh points, or (68, 2 or 3) iBUG points for `fan68` (taken from the mesh when 478
            come).
        size_hw: height and width of the frame.
        blur: kernel side in pixels (odd) and sigma of the Gaussian; None leaves the edge hard.
        kind: `facemesh` uses the mesh outline; `fan68` jaw and brows of the 68 points, as published for IP_LAP.

    Returns:
        (H, W) uint8, 255 inside.
    """
    points = np.asarray(points_px)[:, :2]
    if kind == "facemesh":
        if len(points) < 468:
            raise DataError(f"mask kind 'facemesh' needs 478 mesh points, got {len(points)}; use mask: fan68")
        return polygon_mask(points[list(facemesh.PASTE_CONTOUR)], size_hw, blur)
    if len(points) not in (68, 468, facemesh.N_POINTS):
        raise DataError(f"mask kind 'fan68' needs 68 or 478 landmarks, got {len(points)}; use a landmark provider")
    if len(points) != 68:
        points = facemesh.to_ibug68(points)
    contour = np.concatenate([points[0:17], points[26:16:-1]])
    return polygon_mask(contour, size_hw, blur, convex=True)


def polygon_mask(
    contour: np.ndarray, size_hw: tuple[int, int], blur: Blur | None = (21, 11.0), convex: bool = False
) -> np.ndarray:
    """Filled polygon (P, 2), coordinates truncated to whole pixels, then blurred: (H, W) uint8.

    `convex` draws with `fillConvexPoly` as the published code does, also for contours that are not convex.
    """
    height, width = size_hw
    contour = np.trunc(np.asarray(contour, dtype=np.float64)).astype(np.int32)
    # Only the neighbourhood of the polygon is drawn and blurred: same pixels, several times faster on large frames.
    pad = blur[0] // 2 + 1 if blur else 0
    x1, y1 = np.clip(contour.min(axis=0) - pad, 0, [width, height])
    x2, y2 = np.clip(contour.max(axis=0) + pad + 1, 0, [width, height])
    mask = np.zeros((height, width), np.uint8)
    if x2 <= x1 or y2 <= y1:
        return mask
    part = np.zeros((y2 - y1, x2 - x1), np.uint8)
    if convex:
        cv2.fillConvexPoly(part, contour - [x1, y1], 255)
    else:
        cv2.fillPoly(part, [contour - [x1, y1]], 255)
    if blur:
        part = cv2.GaussianBlur(part, (blur[0], blur[0]), blur[1])
    mask[y1:y2, x1:x2] = part
    return mask


def composite(frame: np.ndarray, generated: np.ndarray, mask: np.ndarray, truncate: bool = False) -> np.ndarray:
    """Mix two pictures by a mask: generated * m + frame * (1 - m), m = mask / 255.

    Args:
        frame: (H, W, 3) uint8, copied exactly where the mask is 0.
        generated: (H, W, 3) uint8.
        mask: (H, W) uint8.
        truncate: cut decimals off as the published code does (half a grey level darker); default rounds.

    Returns:
        (H, W, 3) uint8.
    """
    mixed = frame.copy()
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return mixed
    inside = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    weight = mask[inside][..., None] / (255.0 if truncate else np.float32(255.0))
    values = generated[inside] * weight + frame[inside] * (1 - weight)
    mixed[inside] = values.astype(np.uint8) if truncate else np.rint(values).astype(np.uint8)
    return mixed
