"""Landmark distances between generated and real frames, in the 68-point iBUG layout (lips 48-67).

With mesh landmarks the 68 points are the approximate ones of `faces.mesh`; compare numbers of one landmark provider
only.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from talkingface.errors import DataError
from talkingface.evaluation.metric import Figure, Metric
from talkingface.evaluation.sample import EvalSample

JAW, LIPS = slice(0, 17), slice(48, 68)


def lip_lmd_vico(generated: np.ndarray, real: np.ndarray) -> np.ndarray:
    """(F,) mean absolute difference of the lip points' coordinates (L1, not Euclidean), as the ViCo script has it."""
    return np.abs(generated[:, LIPS] - real[:, LIPS]).mean(axis=(1, 2))


def distances(generated: np.ndarray, real: np.ndarray) -> np.ndarray:
    """(F, 68) Euclidean distance of every point; arguments (F, 68, 2)."""
    return np.linalg.norm(generated - real, axis=-1)


def centred(points: np.ndarray) -> np.ndarray:
    """(F, 68, 2) less the mean of each face's own lip points: position does not count, shape does."""
    return points - points[:, LIPS].mean(axis=1, keepdims=True)


def interocular(points: np.ndarray) -> np.ndarray:
    """(F,) distance between the centres of the eyes."""
    return np.linalg.norm(points[:, 36:42].mean(axis=1) - points[:, 42:48].mean(axis=1), axis=-1)


def landmark_distances(generated: np.ndarray, real: np.ndarray) -> dict[str, np.ndarray]:
    """Every figure per frame, from (F, 68, 2) points in pixels."""
    euclid, eyes = distances(generated, real), interocular(real)
    lips, face = euclid[:, LIPS].mean(axis=1), euclid.mean(axis=1)
    return {
        "lip_lmd_vico": lip_lmd_vico(generated, real),
        "m_lmd": lips,
        "f_lmd": face,
        "jaw_lip_lmd": np.concatenate([euclid[:, JAW], euclid[:, LIPS]], axis=1).mean(axis=1),
        "m_lmd_aligned": distances(centred(generated), centred(real))[:, LIPS].mean(axis=1),
        "m_lmd_iod": lips / eyes,
        "f_lmd_iod": face / eyes,
    }


class LMD(Metric):
    """Distances of facial landmarks to those of the real frames."""

    name = "LMD"
    needs_landmarks = True
    pointwise = True
    per_frame = True
    figures: ClassVar[dict[str, Figure]] = {
        "lip_lmd_vico": Figure("px", False, "lips, mean absolute difference per coordinate"),
        "m_lmd": Figure("px", False, "lips, Euclidean"),
        "f_lmd": Figure("px", False, "whole face, Euclidean"),
        "jaw_lip_lmd": Figure("px", False, "jaw and lips, Euclidean"),
        "m_lmd_aligned": Figure("px", False, "lips, Euclidean, mouths moved onto each other"),
        "m_lmd_iod": Figure("eye distances", False, "lips, over the real frame's inter-ocular distance"),
        "f_lmd_iod": Figure("eye distances", False, "whole face, likewise"),
    }

    def definition(self) -> dict[str, Any]:
        """The layout; the provider is named once per report."""
        return {"lmd": {"layout": "ibug68", "frames": "those in which both faces were detected"}}

    def score(self, sample: EvalSample) -> dict[str, float]:
        """Means over the frames in which a face was detected in both videos."""
        generated, real = sample.generated_track(), sample.real_track()
        length = min(len(generated), len(real))
        # Detected, not interpolated: a guess of ours must not count for or against a model.
        both = generated.found[:length] & real.found[:length]
        if not both.any():
            raise DataError(f"{sample.generated}: no frame has a face in both this and the real video")
        values = landmark_distances(
            generated.ibug68()[:length][both].astype(np.float64), real.ibug68()[:length][both].astype(np.float64)
        )
        for key in values:
            sample.count(key, int(both.sum()), int(length - both.sum()))
        return {key: float(value.mean()) for key, value in values.items()}
