"""What is bridged between two detections, and what is not: the picture decides."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from helpers.clips import SIDE, box_blur, face_frames
from talkingface.faces.gaps import EDGE, bridge_gaps

CORNERS = np.array([[58, 50], [140, 50], [58, 160], [140, 160]], np.float32)  # about the face of `face_frames`


def hand(frame, colour=(120, 85, 70)):
    return cv2.ellipse(frame.copy(), (100, 130), (40, 38), 0, 0, 360, colour, -1)


def slide(frame=None):
    return cv2.putText(np.full((SIDE, SIDE, 3), 235, np.uint8), "Slide 1", (40, 100), 0, 1, (20, 20, 20), 3)


def black(frame):
    return np.zeros_like(frame)


def room(frame):
    """The same room without anybody: what is left and right of the face."""
    empty = frame.copy()
    empty[:, 40:160] = frame[:, :1]
    return empty


def skin(frame):
    return np.full_like(frame, frame[60:150, 60:140].mean(axis=(0, 1)).astype(np.uint8))


def film(count, gap, change):
    """Frames of a face, some of them changed and without landmarks: frames, landmarks, found."""
    frames = [change(f) if k in gap else f for k, f in enumerate(face_frames(count))]
    found = np.array([k not in gap for k in range(count)])
    points = np.stack([CORNERS - [0, k] for k in range(count)])  # the face drifts upwards by a pixel per frame
    points[~found] = np.nan
    return frames, points, found


@pytest.mark.parametrize("change", [box_blur, hand, lambda frame: frame])
def test_a_missed_face_is_bridged_where_the_picture_goes_on(change):
    frames, points, found = film(16, range(6, 10), change)
    valid = bridge_gaps(points, found, 12, frames)
    assert valid.all()
    np.testing.assert_allclose(points[7], CORNERS - [0, 7], atol=1e-4)


@pytest.mark.parametrize("change", [slide, black, room, skin])
@pytest.mark.parametrize("gap", [range(6, 10), range(5), range(11, 16)])
def test_frames_without_a_face_stay_without_one(change, gap):
    frames, points, found = film(16, gap, change)
    np.testing.assert_array_equal(bridge_gaps(points, found, 12, frames), found)
    assert np.isnan(points[~found]).all()


def test_beyond_the_first_and_last_detection_a_few_frames_are_bridged_where_the_picture_goes_on():
    frames, points, found = film(20, [*range(6), *range(14, 20)], box_blur)
    assert bridge_gaps(points.copy(), found, 5, frames).sum() == 8, "gaps of six frames are too long for that"
    valid = bridge_gaps(points, found, 12, frames)
    np.testing.assert_array_equal(np.flatnonzero(valid), np.arange(6 - EDGE, 14 + EDGE))
    np.testing.assert_array_equal(points[4], CORNERS - [0, 6])
    np.testing.assert_array_equal(points[15], CORNERS - [0, 13])


def test_a_cross_fade_is_no_face_however_slowly_it_comes():
    frames, points, found = film(20, range(6, 14), lambda frame: frame)
    for k in range(6, 14):
        share = 1 - abs(k - 9.5) / 5
        frames[k] = cv2.addWeighted(frames[k], 1 - share, slide(), share, 0)
    valid = bridge_gaps(points, found, 12, frames)
    assert not valid[8:12].any(), "the frames that are more slide than face"


def test_no_face_flies_from_one_shot_to_the_next_but_each_is_held_in_its_own():
    left = [np.concatenate([f, np.full_like(f, 90)], axis=1) for f in face_frames(10)]
    right = [frame[:, ::-1] for frame in left]
    empty = [np.full_like(left[0], 90)] * 6
    frames = [*left[:6], *map(box_blur, left[6:8]), *empty, *map(box_blur, right[:1]), *right[1:6]]
    found = np.array([k < 6 or k >= 15 for k in range(20)])
    mirrored = CORNERS * [-1, 1] + [2 * SIDE, 0]
    points = np.stack([(CORNERS if k < 10 else mirrored) - [0, k % 14 % 10] for k in range(20)]).astype(np.float32)
    points[~found] = np.nan
    valid = bridge_gaps(points, found, 25, frames)
    np.testing.assert_array_equal(np.flatnonzero(valid & ~found), [6, 7, 14])
    assert points[7, :, 0].max() < SIDE < points[14, :, 0].min()


def test_gaps_longer_than_allowed_stay_open_and_pictures_are_not_read_without_a_gap():
    frames, points, found = film(20, range(4, 16), lambda frame: frame)
    valid = bridge_gaps(points.copy(), found, 11, frames)
    np.testing.assert_array_equal(valid, found)
    assert bridge_gaps(points.copy(), found, 12, frames).all()
    np.testing.assert_array_equal(bridge_gaps(points, found, 0, iter(())), found)
    assert bridge_gaps(points, np.ones(20, bool), 5, iter(())).all()
