"""Linking, smoothing and cropping of faces, where the stored vectors do not reach."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import medfilt

from talkingface.lipsync.public import face_track
from talkingface.lipsync.public.face_track import FaceTrack, SmoothTrack, link, running_median, smooth


def still(frames: int, box: tuple[float, ...] = (50, 60, 200, 220)) -> list[np.ndarray]:
    return [np.array([box], np.float64)] * frames


NOTHING = np.zeros((0, 4))


def test_a_gap_of_25_frames_ends_the_track_and_24_do_not():
    assert [(t.first, t.last) for t in link(still(101) + [NOTHING] * 24 + still(1))] == [(0, 125)]
    assert [(t.first, t.last) for t in link(still(101) + [NOTHING] * 25 + still(1))] == [(0, 100)]


def test_a_track_needs_more_than_100_detections_and_a_face_of_more_than_100_pixels():
    assert link(still(100)) == [] and len(link(still(101))) == 1
    assert link(still(150, (0, 0, 100, 100))) == [] and len(link(still(150, (0, 0, 101, 80)))) == 1


def test_a_box_that_jumps_starts_another_track_and_frames_count_from_the_shot():
    tracks = link(still(110) + still(120, (300, 60, 450, 220)), first=1000)
    assert [(t.first, t.last) for t in tracks] == [(1000, 1109), (1110, 1229)]


def test_one_frame_gives_a_track_one_detection_and_scores_are_left_aside():
    twice = np.array([[50, 60, 200, 220, 0.99], [52, 60, 202, 220, 0.95]])
    tracks = link([twice] * 120)
    assert [len(track.boxes) for track in tracks] == [120, 120]
    np.testing.assert_array_equal(tracks[0].boxes[:, 0], np.full(120, 50.0))


def test_many_short_tracks_take_one_look_at_every_frame_and_no_more():
    """A detector that flickers in a long film leaves thousands of them."""
    looks = []

    class Watched(list):
        def __getitem__(self, frame):
            looks.append(frame)
            return super().__getitem__(frame)

    flicker = Watched([[np.array([300.0 * k, 0, 300 * k + 200, 200])] for k in range(2000)])
    assert len(list(face_track._chains(flicker))) == 2000
    assert len(looks) < 2000 * 3 * face_track.MAX_GAP


def test_missing_boxes_are_interpolated():
    moving = [np.array([[k, 0, k + 200, 200]], np.float64) if k % 7 else NOTHING for k in range(1, 140)]
    (track,) = link(moving)
    np.testing.assert_allclose(track.boxes[:, 0], np.arange(1, 140))


def test_the_median_equals_scipys_and_nearest_does_not_shrink_the_ends():
    values = 60 + np.random.default_rng(0).normal(size=40)
    np.testing.assert_allclose(running_median(values, 13), medfilt(values, 13))
    boxes = np.tile([100.0, 100.0, 220.0, 220.0], (40, 1))
    boxes[:8, 2:] += 30 * np.linspace(1, 0, 8)[:, None]
    published, better = smooth(FaceTrack(5, boxes)), smooth(FaceTrack(5, boxes), "nearest")
    assert published.half_size[0] < 0.95 * better.half_size[0]
    np.testing.assert_allclose(published.half_size[6:34], better.half_size[6:34])
    assert (published.first, published.last) == (5, 44)


@pytest.mark.parametrize("seed", range(6))
def test_crops_equal_those_from_a_padded_picture(seed):
    import cv2

    rng = np.random.default_rng(seed)
    frame = rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)
    half, x, y = rng.uniform(20, 90), rng.uniform(0, 160), rng.uniform(0, 120)
    track = SmoothTrack(0, *(np.array([value]) for value in (half, x, y)))
    pad, y0, y1, x0, x1 = track.rectangle(0)
    padded = np.pad(frame, ((pad, pad), (pad, pad), (0, 0)), constant_values=face_track.PAD_VALUE)
    np.testing.assert_array_equal(track.crop(frame, 0), cv2.resize(padded[y0:y1, x0:x1], (224, 224)))


def test_a_crop_beside_the_picture_is_grey():
    track = SmoothTrack(0, np.array([5.0]), np.array([-400.0]), np.array([-400.0]))
    assert (track.crop(np.zeros((50, 50, 3), np.uint8), 0) == face_track.PAD_VALUE).all()
