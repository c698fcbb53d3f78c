"""Between pixels and the space that the landmark networks work in: jaw ends 1.6 apart, y down, z towards the viewer.

Paper: Y. Zhou et al., "MakeItTalk: Speaker-Aware Talking-Head Animation", ACM TOG 39(6) 221, 2020; official
implementation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from talkingface.faces.ibug68 import EYE_CORNERS, mouth_openings
from talkingface.faces.rigid import register

JAW_WIDTH = 1.6
PHOTO_DEPTH, PUPPET_DEPTH = 0.1, 1.0
"""Shares of the canonical face's depth that a normalised portrait gets; what a detector says of depth is not used."""

PICKED = 10
"""Every so many-th face of a clip may be the one at rest."""


@dataclass(frozen=True)
class Placement:
    """Where the face of a portrait lies.

    Attributes:
        scale: units per pixel, negative as published: the picture is turned twice.
        shift: (x, y) in pixels, minus the middle of the jaw ends.
        roll: radians by which the head is tilted in the picture, clockwise.
    """

    scale: float
    shift: tuple[float, float]
    roll: float = 0.0

    @classmethod
    def of(cls, face: np.ndarray, align_roll: bool = False) -> Placement:
        """The placement of a face (68, 2 or 3) in pixels.

        Args:
            face: points in pixels.
            align_roll: measure the tilt by the eye corners. Published: no; lips then open along the picture's vertical
                and a tilted face comes out too narrow.
        """
        roll = 0.0
        if align_roll:
            across = face[EYE_CORNERS[1], :2] - face[EYE_CORNERS[0], :2]
            roll = float(np.arctan2(across[1], across[0]))
        right, left = (face[[0, 16], :2] @ _turn(-roll).T).astype(np.float64)
        return cls(float(JAW_WIDTH / (right[0] - left[0])), tuple(float(v) for v in -(right + left) / 2), roll)

    def normalise(self, points: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Points (..., 68, 2 or 3) in pixels -> (..., 68, 3); `depth` (68,) becomes z."""
        flat = points[..., :2] @ _turn(-self.roll).T
        placed = -(flat + np.array(self.shift)) * self.scale
        return np.concatenate([placed, np.broadcast_to(depth[:, None], (*placed.shape[:-1], 1))], axis=-1)

    def denormalise(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 68, 3) -> x and y in pixels, z as it is."""
        flat = (-points[..., :2] / self.scale - np.array(self.shift)) @ _turn(self.roll).T
        return np.concatenate([flat, points[..., 2:]], axis=-1)


def _turn(angle: float) -> np.ndarray:
    """Rotation of columns (x, y)."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def most_closed(faces: np.ndarray, count: int = 1) -> np.ndarray:
    """The mean (68, 3) of those faces (T, 68, 3) whose lips are most closed.

    A single one is off by what its moment brings, lips pressed or a head turned, and a whole clip with it.

    Args:
        faces: registered.
        count: of how many. Published: 1.
    """
    return faces[np.argsort(mouth_openings(faces), kind="stable")[:count]].mean(axis=0)


def resting_face(faces: np.ndarray, canonical: np.ndarray, every: int = PICKED) -> np.ndarray:
    """The face of a clip whose lips are most closed, registered: what its displacements are added to.

    Args:
        faces: (T, 68, 3).
        canonical: (68, 3).
        every: only each so many-th face is looked at, as published.

    Returns:
        (68, 3).
    """
    return register(most_closed(faces[::every]), canonical)[0]
