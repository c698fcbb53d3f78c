"""The picture that follows its landmarks, and the pose of a face."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.canonical_faces import CENTRE, LOWER, SCALE, faces_3d, picture, turn
from talkingface.models.makeittalk.canonical import canonical_face
from talkingface.models.makeittalk.clip_faces import face_centre, face_height
from talkingface.models.makeittalk.head_mesh import REACH, HeadMesh, darken, inside_mask, lip_colour
from talkingface.models.makeittalk.pose import LinearPose, portrait_pose


@pytest.fixture
def face():
    return faces_3d(1, moving=False)[0]


def test_landmarks_that_stay_leave_the_picture_as_it_is(face):
    shown = picture(face)
    np.testing.assert_array_equal(HeadMesh(face[:, :2]).move(shown, face[:, :2]), shown)


def test_the_head_moves_as_a_whole_and_nothing_moves_far_from_it(face):
    shown, mesh = picture(face), HeadMesh(face[:, :2])
    moved = mesh.move(shown, face[:, :2] + [3, 0])
    y, x = np.mgrid[: shown.shape[0], : shown.shape[1]]
    distance = np.hypot(*(np.stack([x, y]) - face_centre(face)[:, None, None])) / face_height(face)
    np.testing.assert_array_equal(moved[distance > REACH + 0.02], shown[distance > REACH + 0.02])
    expected = np.roll(shown, 3, axis=1)
    assert np.abs(moved.astype(int) - expected)[distance < 0.6].max() <= 2
    assert (moved != shown).any()


def test_a_closed_mouth_opens_between_its_lips_without_a_hole(face):
    closed, mesh = face.copy(), HeadMesh(face[:, :2])
    opened = closed.copy()
    opened[LOWER, 1] += 8
    white = np.full_like(picture(face), 255)
    assert (mesh.move(white, opened[:, :2]) == 255).all()
    shown = mesh.move(picture(face), opened[:, :2])
    assert np.abs(shown[70:80].astype(int) - picture(face)[70:80]).max() <= 2, "the eyes stay"
    mask = inside_mask(opened, shown.shape[:2])
    assert mask.any() and not inside_mask(closed, shown.shape[:2])[: int(closed[60:68, 1].min()) - 2].any()


def test_a_tilted_head_has_the_same_face_and_comes_back(face):
    middle = np.array([*CENTRE, 0])
    for roll in (0.0, np.radians(20)):
        tilted = ((face - middle) @ turn(0, roll).T + middle)[:, :2]
        pose = portrait_pose(tilted, canonical_face(), "roll")
        normal = pose.normalise(tilted, canonical_face()[:, 2])
        np.testing.assert_allclose(normal, canonical_face(), atol=1e-6)
        np.testing.assert_allclose(pose.denormalise(normal)[:, :2], tilted, atol=1e-9)


def test_the_pose_of_a_turned_head_puts_lips_where_they_are_seen(face):
    turned = faces_3d(1, moving=False)[0]
    turned = ((turned - [*CENTRE, 0]) @ turn(0.3, 0.1).T + [*CENTRE, 0])[:, :2]
    pose = LinearPose.turned(canonical_face(), turned)
    np.testing.assert_allclose(pose.denormalise(canonical_face())[:, :2], turned, atol=0.02 * SCALE)


def test_the_published_pose_looks_at_the_jaw_ends_alone(face):
    pose = portrait_pose(face[:, :2], canonical_face(), "published")
    normal = pose.normalise(face[:, :2], 0.1 * canonical_face()[:, 2])
    assert normal[16, 0] - normal[0, 0] == pytest.approx(1.6)


def test_a_mouth_that_opens_is_dark_and_one_that_was_open_shows_what_it_had(face):
    opened = face.copy()
    opened[LOWER, 1] += 8
    shown = np.full_like(picture(face), 200)
    inside = inside_mask(opened, shown.shape[:2]) == 255
    colour, dark, same = lip_colour(shown, face[:, :2]), shown.copy(), shown.copy()
    darken(dark, opened[:, :2], face[:, :2], colour)
    assert dark[inside].mean() < 120 and (dark[~(inside_mask(opened, shown.shape[:2]) > 0)] == 200).all()
    darken(same, opened[:, :2], opened[:, :2], colour)
    np.testing.assert_array_equal(same, shown)
