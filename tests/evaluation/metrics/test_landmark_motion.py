"""Landmark figures of papers, on faces that are moved by hand."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.canonical_faces import CENTRE, SCALE, faces_3d, track_of, turn
from helpers.toy_tracks import sample
from talkingface.errors import DataError
from talkingface.evaluation.metrics.landmark_motion import LandmarkMotion, landmark_figures

WIDTH = 2 * 0.7441 * SCALE  # of the canonical jaw


def figures(generated, real):
    return landmark_figures(generated, real, np.ones(len(real), bool))


def test_a_video_beside_itself_is_perfect():
    real = faces_3d(24)
    assert max(figures(real.copy(), real).values()) < 1e-5


def test_a_head_that_is_shifted_and_turned_has_the_same_lips():
    real = faces_3d(24)
    middle = np.array([*CENTRE, 0])
    moved = (real - middle) @ turn(0, np.radians(10)).T + middle + [3, 4, 0]
    found = figures(moved, real)
    assert max(found[key] for key in ("d_ll", "d_vl", "d_a")) < 1e-4
    assert found["d_rot"] == pytest.approx(10, abs=1e-3) and found["d_l"] > 5


def test_distance_of_heads_is_measured_in_widths_of_the_face():
    real = faces_3d(24, moving=False)
    found = figures(real + [3, 4, 0], real)
    assert found["d_pos"] == pytest.approx(100 * 5 / WIDTH, rel=1e-3)
    assert found["d_l"] == pytest.approx(found["d_pos"]) and found["d_v"] == pytest.approx(0, abs=1e-9)


def test_lips_that_stay_closed_are_behind_in_place_speed_and_area():
    real, still = faces_3d(24, moving=False), np.repeat(faces_3d(1, moving=False), 24, axis=0)
    found = figures(still, real)
    wide = 0.06 - 0.06 * np.cos(2 * np.pi * np.arange(24) / 12)
    lips = np.linalg.norm(real[0, 48] - real[0, 54]) / SCALE
    assert found["d_ll"] == pytest.approx(100 * 13 / 37 * wide.mean() / lips, rel=1e-3)
    assert found["d_vl"] == pytest.approx(100 * 13 / 37 * np.abs(np.diff(wide)).mean() / lips, rel=1e-3)
    assert 40 < found["d_a"] < 60


def test_frames_without_a_face_count_neither_as_places_nor_as_steps():
    real = faces_3d(12)
    wrong = real.copy()
    wrong[5] += 50
    clip = sample(track_of(wrong, gone=(5,)), track_of(real))
    found = LandmarkMotion().score(clip)
    assert found["d_l"] < 0.1 and found["d_v"] < 0.1
    assert (clip.frames["d_ll"], clip.excluded["d_ll"]) == (11, 1)
    flat = sample(track_of(real, depth=False), track_of(real))
    with pytest.raises(DataError, match="no depth"):
        LandmarkMotion().score(flat)
