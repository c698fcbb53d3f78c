"""The mouth of a portrait and of its moving landmarks: closed, thinned, and never crossed.

Official implementation of MakeItTalk; its numbers were tuned by eye.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from talkingface.faces.ibug68 import INNER_LIP_PAIRS, LIPS, OUTER_LIP_PAIRS, mouth_areas

UPPER, LOWER = (list(points) for points in INNER_LIP_PAIRS)
OUTER_UPPER, OUTER_LOWER = (list(points) for points in OUTER_LIP_PAIRS)
CLOSED = 0.99
"""Share of the way to each other that lips go which only the head's motion may move."""


class Features(NamedTuple):
    """Changes of a portrait before it speaks.

    Attributes:
        upper_lip: by how much the upper outer lip moves down, in the units of the points.
        lower_lip: by how much the lower outer lip moves up.
        eyes: by how much each lid moves away from the eye's middle.
        lip_width: width of the lips, in shares of what it was.
    """

    upper_lip: float = 0.0
    lower_lip: float = 0.0
    eyes: float = 0.0
    lip_width: float = 1.0

    def in_units(self, unit: float) -> Features:
        """The same with lengths that were given in shares of `unit`, the height of the face in pixels say."""
        return Features(self.upper_lip * unit, self.lower_lip * unit, self.eyes * unit, self.lip_width)


PUBLISHED_FEATURES = Features(1.0, 1.0, 2.0)
"""In pixels of a picture of 256: thinner lips and wider eyes."""


def with_features(face: np.ndarray, features: Features) -> np.ndarray:
    """A face (68, 2 or 3), y down, with lips and eyes changed."""
    face = face.copy()
    face[OUTER_UPPER, 1] += features.upper_lip
    face[OUTER_LOWER, 1] -= features.lower_lip
    face[[37, 38, 43, 44], 1] -= features.eyes
    face[[40, 41, 46, 47], 1] += features.eyes
    middle = (face[48, 0] + face[54, 0]) / 2
    face[LIPS, 0] += (features.lip_width - 1) * (face[LIPS, 0] - middle)
    return face


def close_portrait(face: np.ndarray, middle: float = 0.7, side: float = 0.5) -> np.ndarray:
    """A face, or faces (..., 68, 2 or 3), whose open mouth is closed most of the way.

    Args:
        face: the points.
        middle: share of the way for the inner lips and the middle of the outer ones.
        side: the same for the outer points next to the corners.
    """
    face = face.copy()
    centre = (face[..., UPPER, :] + face[..., LOWER, :]) / 2
    above, below = face[..., UPPER, :] - centre, face[..., LOWER, :] - centre
    ends = [0, 2]
    face[..., OUTER_UPPER[1:4], :] -= middle * above
    face[..., OUTER_LOWER[1:4], :] -= middle * below
    face[..., [OUTER_UPPER[0], OUTER_UPPER[4]], :] -= side * above[..., ends, :]
    face[..., [OUTER_LOWER[0], OUTER_LOWER[4]], :] -= side * below[..., ends, :]
    face[..., UPPER, :] -= middle * above
    face[..., LOWER, :] -= middle * below
    return face


def close_lips(faces: np.ndarray, share: float = CLOSED) -> np.ndarray:
    """Faces or displacements (..., 68, 3) whose upper and lower lips have come to each other."""
    faces = faces.copy()
    for upper, lower in ((OUTER_UPPER, OUTER_LOWER), (UPPER, LOWER)):
        middle = (faces[..., upper, :] + faces[..., lower, :]) / 2
        for lips in (upper, lower):
            faces[..., lips, :] += share * (middle - faces[..., lips, :])
    return faces


def uncross_lips(faces: np.ndarray) -> np.ndarray:
    """Faces (T, 68, 3) over time whose inner lips no longer cross.

    Crossed inner lips meet half way, and the outer ones keep the thickness that they had in the frame before.
    """
    faces = faces.copy()
    below, above = [64, 65, 66, 67, 60], [60, 61, 62, 63, 64]
    for now in np.flatnonzero(mouth_areas(faces) < 0):
        face = faces[now]
        face[UPPER] = face[LOWER] = (face[UPPER] + face[LOWER]) / 2
        if now:
            before = faces[now - 1]
            for outer, inner in ((slice(55, 60), below), (slice(49, 54), above)):
                face[outer, 1] = face[inner, 1] + before[outer, 1] - before[inner, 1]
    return faces
