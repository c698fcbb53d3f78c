"""Rigid motion of heads: the turn and shift that take points onto others, for whole tracks at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

T_SHAPE = (27, 28, 29, 30, 33, 36, 39, 42, 45)
"""iBUG points that hardly move while speaking: bridge and base of the nose, corners of the eyes."""


def rigid_transforms(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Turns and shifts, no scale, that take points closest to a target in the sense of least squares.

    W. Kabsch, Acta Crystallographica A32, 1976; mirrored solutions are turned back.

    Args:
        points: (..., K, 3).
        target: (K, 3).

    Returns:
        (..., 4, 4) float64, to be applied to columns (x, y, z, 1).
    """
    points, target = np.asarray(points, np.float64), np.asarray(target, np.float64)
    middle, goal = points.mean(axis=-2, keepdims=True), target.mean(axis=-2)
    left, _, right = np.linalg.svd(np.swapaxes(points - middle, -1, -2) @ (target - goal))
    mirrored = np.linalg.det(left @ right) < 0
    right[mirrored, -1] *= -1
    rotation = np.swapaxes(left @ right, -1, -2)
    transform = np.zeros((*points.shape[:-2], 4, 4))
    transform[..., :3, :3] = rotation
    transform[..., :3, 3] = goal - (middle @ np.swapaxes(rotation, -1, -2))[..., 0, :]
    transform[..., 3, 3] = 1.0
    return transform


def transformed(points: np.ndarray, transforms: np.ndarray) -> np.ndarray:
    """Points (..., K, 3) after transforms (..., 4, 4)."""
    rotation, shift = transforms[..., :3, :3], transforms[..., :3, 3]
    return points @ np.swapaxes(rotation, -1, -2) + shift[..., None, :]


def register(
    faces: np.ndarray, canonical: np.ndarray, stable: Sequence[int] = T_SHAPE
) -> tuple[np.ndarray, np.ndarray]:
    """Faces turned and shifted, without scale, as the canonical one is.

    Args:
        faces: (..., 68, 3), in units in which the faces are as large as the canonical one.
        canonical: (68, 3).
        stable: points that are compared.

    Returns:
        The faces (..., 68, 3), and the transforms (..., 4, 4) that led there.
    """
    chosen = list(stable)
    transforms = rigid_transforms(np.asarray(faces)[..., chosen, :], np.asarray(canonical)[chosen])
    return transformed(faces, transforms), transforms
