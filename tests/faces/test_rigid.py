"""Rigid registration: the motion that made the points is found again."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from talkingface.faces.rigid import T_SHAPE, register, rigid_transforms, transformed


@pytest.fixture
def face():
    return np.random.default_rng(0).normal(size=(68, 3))


def test_heads_of_a_whole_track_are_turned_back(face):
    turns = Rotation.random(20, rng=np.random.default_rng(1)).as_matrix()
    shifts = np.random.default_rng(2).normal(size=(20, 1, 3))
    registered, transforms = register(face @ turns.transpose(0, 2, 1) + shifts, face)
    np.testing.assert_allclose(registered, np.broadcast_to(face, (20, 68, 3)), atol=1e-9)
    np.testing.assert_allclose(transforms[:, :3, :3], turns.transpose(0, 2, 1), atol=1e-9)


def test_it_is_the_least_squares_solution_of_scipy(face):
    target = np.random.default_rng(3).normal(size=(68, 3))
    wanted, _ = Rotation.align_vectors(target - target.mean(axis=0), face - face.mean(axis=0))
    found = rigid_transforms(face, target)
    np.testing.assert_allclose(found[:3, :3], wanted.as_matrix(), atol=1e-7)
    np.testing.assert_allclose(transformed(face, found).mean(axis=0), target.mean(axis=0), atol=1e-9)


def test_a_mirrored_face_is_turned_and_not_mirrored(face):
    _, transform = register(face * [-1, 1, 1], face)
    assert np.linalg.det(transform[:3, :3]) == pytest.approx(1)


def test_only_the_stable_points_count(face):
    speaking = face.copy()
    speaking[48:] += 5
    registered, transform = register(speaking, face)
    np.testing.assert_allclose(transform, np.eye(4), atol=1e-9)
    np.testing.assert_allclose(registered[list(T_SHAPE)], face[list(T_SHAPE)], atol=1e-9)
    assert not np.allclose(register(speaking, face, range(68))[1], np.eye(4))
