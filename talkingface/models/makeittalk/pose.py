"""Between landmarks in a picture and faces in the canonical space, whatever the tilt and turn of the head.

A face is the canonical one with its points moved across and along; a pose projects it into the picture. What a detector
says of depth is not used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from talkingface.faces.dubbing_crop import fit_similarity
from talkingface.models.makeittalk.head_mesh import STABLE
from talkingface.models.makeittalk.space import Placement


class Pose(Protocol):
    """Where a face lies in a picture."""

    def normalise(self, points: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Points (68, 2) in pixels -> (68, 3); `depth` (68,) becomes z."""
        ...

    def denormalise(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 68, 3) -> x and y in pixels, and z as it is."""
        ...


@dataclass(frozen=True)
class LinearPose:
    """A linear map from the canonical space into the picture.

    Attributes:
        matrix: (2, 3).
        shift: (2,) pixels.
    """

    matrix: np.ndarray
    shift: np.ndarray

    @classmethod
    def upright(cls, points: np.ndarray, canonical: np.ndarray) -> LinearPose:
        """The similarity that takes the canonical face closest to landmarks (68, 2): position, size, tilt."""
        chosen = list(STABLE)
        found = fit_similarity(canonical[None, chosen, :2], points[chosen, :2])[0]
        return cls(np.concatenate([found[:, :2], np.zeros((2, 1))], axis=1), found[:, 2])

    @classmethod
    def turned(cls, face: np.ndarray, points: np.ndarray) -> LinearPose:
        """The linear map that takes a face (68, 3) closest to landmarks (68, 2): a turned head as well."""
        chosen = list(STABLE)
        known = np.concatenate([face[chosen], np.ones((len(chosen), 1))], axis=1)
        # A little of the similarity: the depth of a flat face says nothing.
        upright = cls.upright(points, face)
        rest = points[chosen, :2] - known @ np.concatenate([upright.matrix.T, upright.shift[None]])
        weight = 1e-3 * np.eye(4)
        change = np.linalg.solve(known.T @ known + weight, known.T @ rest)
        return cls(upright.matrix + change[:3].T, upright.shift + change[3])

    def normalise(self, points: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """See `Pose.normalise`."""
        flat = points[..., :2] - self.shift - depth[:, None] * self.matrix[:, 2]
        placed = flat @ np.linalg.inv(self.matrix[:, :2]).T
        return np.concatenate([placed, np.broadcast_to(depth[:, None], (*placed.shape[:-1], 1))], axis=-1)

    def denormalise(self, points: np.ndarray) -> np.ndarray:
        """See `Pose.denormalise`."""
        return np.concatenate([points @ self.matrix.T + self.shift, points[..., 2:]], axis=-1)


def portrait_pose(points: np.ndarray, canonical: np.ndarray, align: str) -> Pose:
    """The pose of a portrait: `roll` takes its tilt out, `published` looks at the jaw ends alone."""
    return Placement.of(points) if align == "published" else LinearPose.upright(points, canonical)
