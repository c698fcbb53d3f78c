"""Landmark figures of papers on talking heads: how far faces, their speed, mouths and heads are from the real ones.

As MakeItTalk (Y. Zhou et al., ACM TOG 39(6) 221, 2020, section 6) has them; no code was published. Faces are aligned to
one pose before lips and jaw are compared, by the rigid motion that takes nose and eyes onto those of one real frame.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from talkingface.errors import DataError
from talkingface.evaluation.metric import Figure, Metric
from talkingface.evaluation.sample import EvalSample
from talkingface.faces.ibug68 import JAW, LIPS, eye_distances, mouth_openings
from talkingface.faces.rigid import T_SHAPE, register
from talkingface.faces.track import LandmarkTrack

_LIP_CORNERS, _JAW_ENDS = (48, 54), (0, 16)


class LandmarkMotion(Metric):
    """Distances and speeds of landmarks, areas of mouths, turns and places of heads, beside those of the real video."""

    name = "LANDMARKS"
    needs_landmarks = True
    figures: ClassVar[dict[str, Figure]] = {
        "d_ll": Figure("%", False, "lips and jaw, faces aligned, over the largest width of the lips"),
        "d_vl": Figure("%", False, "their velocities per frame, likewise"),
        "d_a": Figure("%", False, "area between the inner lips, over the largest"),
        "d_l": Figure("%", False, "all landmarks as they are, over the width of the face"),
        "d_v": Figure("%", False, "their velocities per frame, likewise"),
        "d_rot": Figure("degrees", False, "turn between the heads"),
        "d_pos": Figure("%", False, "distance between the heads, over the width of the face"),
    }

    def definition(self) -> dict[str, Any]:
        """Layout, alignment and units."""
        aligned = "rigidly, by nose and eye corners, to the real frame of median mouth opening"
        return {"landmarks": {"layout": "ibug68 with depth", "aligned": aligned, "velocity": "per frame"}}

    def score(self, sample: EvalSample) -> dict[str, float]:
        """Means over the frames in which a face was detected in both videos.

        Raises:
            DataError: there are none, or the landmarks have no depth.
        """
        generated, real = sample.generated_track(), sample.real_track()
        length = min(len(generated), len(real))
        both = generated.found[:length] & real.found[:length]
        if not both.any():
            raise DataError(f"{sample.generated}: no frame has a face in both this and the real video")
        faces = [_faces(track)[:length] for track in (generated, real)]
        values = landmark_figures(*faces, both)
        for key in values:
            sample.count(key, int(both.sum()), int(length - both.sum()))
        return values


def _faces(track: LandmarkTrack) -> np.ndarray:
    return track.ibug68(depth=True).astype(np.float64)


def landmark_figures(generated: np.ndarray, real: np.ndarray, both: np.ndarray) -> dict[str, float]:
    """All figures of one clip.

    Args:
        generated: (F, 68, 3) pixels.
        real: (F, 68, 3) pixels of the same frames.
        both: (F,) bool, frames that count; velocities need two in a row.
    """
    # One unit for both: the generated face may be drawn larger, which is an error and counts.
    unit = np.median(eye_distances(real[both]))
    generated, real = generated / unit, real / unit
    shown = np.flatnonzero(both)
    middle = shown[np.argsort(mouth_openings(real[both]), kind="stable")[(len(shown) - 1) // 2]]
    (ours, our_turns), (theirs, their_turns) = (register(faces[both], real[middle]) for faces in (generated, real))
    lips = np.linalg.norm(theirs[:, _LIP_CORNERS[0]] - theirs[:, _LIP_CORNERS[1]], axis=-1).max()
    width = np.median(np.linalg.norm(real[both][:, _JAW_ENDS[0]] - real[both][:, _JAW_ENDS[1]], axis=-1))
    spoken = [*range(JAW.start, JAW.stop), *range(LIPS.start, LIPS.stop)]
    areas = [mouth_openings(faces) for faces in (ours, theirs)]
    stable = list(T_SHAPE)
    centres = [faces[both][:, stable, :2].mean(axis=1) for faces in (generated, real)]
    following = np.diff(shown) == 1
    return {
        "d_ll": 100 * _apart(ours[:, spoken], theirs[:, spoken]) / lips,
        "d_vl": 100 * _apart_in_speed(ours[:, spoken], theirs[:, spoken], following) / lips,
        "d_a": 100 * float(np.abs(areas[0] - areas[1]).mean() / max(areas[1].max(), 1e-9)),
        "d_l": 100 * _apart(generated[both][..., :2], real[both][..., :2]) / width,
        "d_v": 100 * _apart_in_speed(generated[both][..., :2], real[both][..., :2], following) / width,
        "d_rot": _degrees(our_turns, their_turns),
        "d_pos": 100 * _apart(*centres) / width,
    }


def _apart(first: np.ndarray, second: np.ndarray) -> float:
    """Mean distance of points (..., D)."""
    return float(np.linalg.norm(first - second, axis=-1).mean())


def _apart_in_speed(first: np.ndarray, second: np.ndarray, following: np.ndarray) -> float:
    """The same of their steps from frame to frame, (n - 1,) of which count; NaN where none does."""
    if not following.any():
        return float("nan")
    return _apart(np.diff(first, axis=0)[following], np.diff(second, axis=0)[following])


def _degrees(first: np.ndarray, second: np.ndarray) -> float:
    """Mean angle in degrees between turns (n, 4, 4)."""
    between = first[:, :3, :3] @ np.swapaxes(second[:, :3, :3], -1, -2)
    cosine = (np.trace(between, axis1=-2, axis2=-1) - 1) / 2
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean())
