"""Landmarks of dumps made fit: units, depth, holes. What was repaired is told, what cannot be is refused."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from talkingface.errors import DataError
from talkingface.faces.ibug68 import POINTS, eye_distances
from talkingface.faces.rigid import T_SHAPE, register
from talkingface.faces.track import fill_gaps
from talkingface.models.makeittalk.networks.pieces import FACE

MAX_GAP = 12
"""Rows without a face that are bridged: 5 frames."""

_PIXELS = 3.0  # times the eye distance of the canonical face: whoever is larger, or as much smaller, has other units
_FLAT = 1e-6  # of the size of a face
_SKEWED = 0.02  # by which a turn may miss to be one


class HeadMotion(NamedTuple):
    """How the head of a clip moves, as `*_gaze.pickle` has it.

    Attributes:
        anchored: (T, 204) registered faces.
        transforms: (T, 3, 4) turns and shifts that led there.
    """

    anchored: np.ndarray
    transforms: np.ndarray


class Repaired(NamedTuple):
    """Landmarks that are fit for training.

    Attributes:
        faces: (T, 68, 3) float64, NaN without a face.
        repairs: what had to be done, in words.
    """

    faces: np.ndarray
    repairs: list[str]


def as_faces(rows: np.ndarray) -> np.ndarray:
    """Rows of numbers (T, 204) as faces (T, 68, 3) float64.

    Raises:
        DataError: they are something else.
    """
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.shape[1] != FACE or rows.dtype.kind not in "fiu":
        raise DataError(f"expected landmarks (rows, {FACE}), found {described(rows)}")
    return rows.astype(np.float64).reshape(-1, POINTS, 3)


def described(value: object) -> str:
    """What something is, for messages."""
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__


def without_holes(faces: np.ndarray, max_gap: int = MAX_GAP) -> Repaired:
    """Faces whose short holes are bridged; a row of zeros, or with numbers that are none, is a hole.

    Raises:
        DataError: there is no face at all.
    """
    faces = faces.copy()
    found = np.isfinite(faces).all(axis=(1, 2)) & faces.any(axis=(1, 2))
    valid = fill_gaps(faces, found, max_gap)
    if not valid.any():
        raise DataError("no row has a face")
    faces[~valid] = np.nan
    repairs = []
    if bridged := int((valid & ~found).sum()):
        repairs.append(f"{bridged} rows without a face refilled from their neighbours")
    if lacking := int((~valid).sum()):
        repairs.append(f"{lacking} rows without a face left out")
    return Repaired(faces, repairs)


def with_depth(faces: np.ndarray, canonical: np.ndarray) -> Repaired:
    """Faces whose depth is constant get that of the canonical face (68, 3), in their own size."""
    size = _size(faces[..., :2])
    if np.nanmax(faces[..., 2]) - np.nanmin(faces[..., 2]) > _FLAT * size:
        return Repaired(faces, [])
    faces = faces.copy()
    faces[..., 2] = np.where(np.isfinite(faces[..., 0]), size * canonical[:, 2], np.nan)
    return Repaired(faces, ["constant depth refilled from the canonical face"])


def in_eye_distances(faces: np.ndarray) -> Repaired:
    """Faces in units of their median eye distance; only other units than the canonical face's count as a repair."""
    size = _size(faces)
    told = [] if 1 / _PIXELS < size < _PIXELS else [f"pixel units rescaled, the eyes were {size:.4g} apart"]
    return Repaired(faces / size, told)


def fit_faces(rows: np.ndarray, canonical: np.ndarray) -> Repaired:
    """Faces (T, 68, 3) registered to the canonical one, in eye distances, of rows (T, 204) as somebody dumped them.

    Raises:
        DataError: they are no landmarks, or there is no face at all.
    """
    whole, holes = without_holes(as_faces(rows))
    deep, depth = with_depth(whole, canonical)
    scaled, units = in_eye_distances(deep)
    valid = np.isfinite(scaled).all(axis=(1, 2))
    scaled[valid] = register(scaled[valid], canonical)[0]
    return Repaired(scaled, [*holes, *depth, *units])


def moving_faces(head: HeadMotion) -> np.ndarray:
    """Faces (T, 68, 3) before they were registered, in the units of the file; NaN where there are none.

    A registered face is the turn of the face as it moved, plus the shift.

    Raises:
        DataError: these are no turns, or not of these faces.
    """
    anchored, transforms = as_faces(head.anchored), head.transforms
    if getattr(transforms, "shape", None) != (len(anchored), 3, 4) or transforms.dtype.kind != "f":
        raise DataError(f"expected turns ({len(anchored)}, 3, 4), found {described(transforms)}")
    turns, shifts = transforms[..., :3].astype(np.float64), transforms[..., 3].astype(np.float64)
    finite = np.isfinite(transforms).all(axis=(1, 2)) & np.isfinite(anchored).all(axis=(1, 2))
    off = np.abs(np.swapaxes(turns, 1, 2) @ turns - np.eye(3)).max(axis=(1, 2))[finite]
    if not finite.any() or off.max() > _SKEWED:
        raise DataError("its turns are none")
    faces = (anchored - shifts[:, None]) @ turns
    faces[~finite] = np.nan
    return faces


def centred(faces: np.ndarray, canonical: np.ndarray) -> np.ndarray:
    """Faces (T, 68, 3) in eye distances, where the canonical one (68, 3) is on average."""
    faces, stable = faces / _size(faces), list(T_SHAPE)
    return faces - np.nanmean(faces[:, stable], axis=(0, 1)) + canonical[stable].mean(axis=0)


def _size(faces: np.ndarray) -> float:
    """Median distance of the outer eye corners.

    Raises:
        DataError: it is none.
    """
    size = float(np.nanmedian(eye_distances(faces)))
    if not 0 < size < np.inf:
        raise DataError("its faces have no size: the eye corners lie upon each other")
    return size
