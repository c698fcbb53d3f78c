"""MakeItTalk's landmarks where the published numbers say nothing: tilted heads, short clips, options, drawings."""

from __future__ import annotations

import numpy as np
import pytest

from talkingface.faces.ibug68 import mouth_areas
from talkingface.models.makeittalk.drawing import draw_landmarks
from talkingface.models.makeittalk.motion import (
    Amplitudes,
    amplified,
    blink_centres,
    blinking,
    calibrated,
    combined,
    settled,
    smoothed,
)
from talkingface.models.makeittalk.mouth import (
    PUBLISHED_FEATURES,
    Features,
    close_lips,
    close_portrait,
    uncross_lips,
    with_features,
)
from talkingface.models.makeittalk.space import Placement, resting_face


def made_face() -> np.ndarray:
    """A plain symmetrical face (68, 3), outer eye corners 1 apart, mouth a little open."""
    jaw = [(-0.8 * np.cos(a), 1.3 * np.sin(a)) for a in np.linspace(0, np.pi, 17)]
    brows = [(x, -0.3) for x in (-0.6, -0.5, -0.4, -0.3, -0.2, 0.2, 0.3, 0.4, 0.5, 0.6)]
    nose = [(0, y) for y in (0, 0.15, 0.3, 0.45)] + [(x, 0.55) for x in (-0.15, -0.07, 0, 0.07, 0.15)]
    eye = [(-0.15, 0), (-0.05, -0.05), (0.05, -0.05), (0.15, 0), (0.05, 0.05), (-0.05, 0.05)]
    eyes = [(x - 0.35, y) for x, y in eye] + [(x + 0.35, y) for x, y in eye]
    outer = [(-0.3 * np.cos(a), 0.85 - 0.15 * np.sin(a)) for a in np.arange(12) * np.pi / 6]
    inner = [(-0.2 * np.cos(a), 0.85 - 0.04 * np.sin(a)) for a in np.arange(8) * np.pi / 4]
    flat = np.array([*jaw, *brows, *nose, *eyes, *outer, *inner])
    return np.concatenate([flat, 0.3 * (1 - np.abs(flat[:, :1]))], axis=1)


@pytest.fixture
def face():
    return made_face()


def in_picture(face, angle=0.0, size=40.0, middle=(128.0, 110.0)):
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.concatenate([size * face[:, :2] @ turn.T + np.array(middle), face[:, 2:]], axis=1)


# -- space -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("angle", [0.0, 0.35, -1.2])
def test_a_tilted_face_is_placed_as_the_upright_one_and_goes_back_to_its_pixels(face, angle):
    upright, tilted = in_picture(face), in_picture(face, angle, size=55.0, middle=(30.0, 60.0))
    depth = 0.1 * face[:, 2]
    placement = Placement.of(tilted, align_roll=True)
    placed = placement.normalise(tilted, depth)
    np.testing.assert_allclose(placed, Placement.of(upright).normalise(upright, depth), atol=1e-9)
    np.testing.assert_allclose(placement.denormalise(placed)[:, :2], tilted[:, :2], atol=1e-9)
    assert placed[16, 0] - placed[0, 0] == pytest.approx(1.6) and (placed[:, 2] == depth).all()


def test_as_published_a_tilted_face_stays_tilted(face):
    tilted = in_picture(face, 0.35)
    placed = Placement.of(tilted).normalise(tilted, face[:, 2])
    assert abs(placed[45, 1] - placed[36, 1]) > 0.3 and Placement.of(tilted).roll == 0


def test_the_face_at_rest_is_the_one_with_the_most_closed_lips_of_those_looked_at(face):
    clip = np.repeat(face[None], 40, axis=0)
    clip[:, 61:64, 1] -= 0.05
    for k in (20, 33):
        clip[k, 61:68, 1] = 0.85
    turned = clip @ np.array([[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1]]).T + 3
    np.testing.assert_allclose(resting_face(turned, face), clip[20], atol=1e-9)
    np.testing.assert_allclose(resting_face(turned[:15], face), clip[0], atol=1e-9)


# -- mouth -------------------------------------------------------------------------------------------------------------


def test_a_portrait_is_closed_most_of_the_way_and_keeps_its_jaw(face):
    closed = close_portrait(face)
    assert mouth_areas(closed) == pytest.approx(0.3 * mouth_areas(face), rel=1e-6)
    assert closed[51, 1] > face[51, 1] and closed[57, 1] < face[57, 1]
    np.testing.assert_array_equal(closed[:48], face[:48])
    np.testing.assert_array_equal(face, made_face())  # the one that was given is left alone


def test_features_are_changed_by_what_is_asked_for(face):
    pixels = in_picture(face)
    changed = with_features(pixels, PUBLISHED_FEATURES)
    assert changed[51, 1] - pixels[51, 1] == 1 and changed[57, 1] - pixels[57, 1] == -1
    assert changed[37, 1] - pixels[37, 1] == -2 and changed[41, 1] - pixels[41, 1] == 2
    np.testing.assert_array_equal(changed[[36, 39, 48, 54]], pixels[[36, 39, 48, 54]])
    wide = with_features(pixels, Features(upper_lip=0.1, lip_width=1.05).in_units(40))
    assert wide[54, 0] - wide[48, 0] == pytest.approx(1.05 * (pixels[54, 0] - pixels[48, 0]))
    assert wide[51, 1] - pixels[51, 1] == pytest.approx(4) and (wide[:48] == pixels[:48]).all()


def test_lips_that_cross_meet_and_keep_their_thickness(face):
    clip = np.repeat(face[None], 4, axis=0)
    clip[[0, 2], 61:64, 1] += 0.2
    fixed = uncross_lips(clip)
    assert mouth_areas(clip[2]) < 0 and abs(mouth_areas(fixed[2])) < 1e-9
    np.testing.assert_array_equal(fixed[[1, 3]], clip[[1, 3]])
    before = clip[1, 49:54, 1] - clip[1, 60:65, 1]
    np.testing.assert_allclose(fixed[2, 49:54, 1] - fixed[2, 60:65, 1], before)
    np.testing.assert_array_equal(fixed[0, 48:60], clip[0, 48:60])  # nothing is before the first


def test_the_heads_motion_hardly_opens_the_mouth(face):
    closed = close_lips(face[None])[0]
    assert mouth_areas(closed) == pytest.approx(0.01 * mouth_areas(face), rel=1e-6)
    np.testing.assert_array_equal(closed[[*range(49), 54, 60, 64]], face[[*range(49), 54, 60, 64]])


# -- motion ------------------------------------------------------------------------------------------------------------


def random_rows(length, seed=0):
    return np.random.default_rng(seed).normal(0, 0.02, (length, 204))


def test_calibration_takes_the_mean_of_the_smaller_half_off_each_column():
    rows = np.array([[0.0, 5.0], [1.0, 5.0], [4.0, 5.0], [9.0, 7.0], [9.0, 9.0]])
    np.testing.assert_allclose(calibrated(rows), rows - np.array([0.5, 5.0]))
    np.testing.assert_array_equal(calibrated(rows[:1]), np.zeros((1, 2)))


def test_only_lips_are_amplified():
    rows = random_rows(5)
    louder = amplified(rows, Amplitudes(2.0, 3.0)) / rows
    assert (louder[:, :144] == 1).all()
    np.testing.assert_allclose(louder[:, 144:].reshape(5, 20, 3), np.broadcast_to([2, 3, 1], (5, 20, 3)))


def test_without_options_both_branches_are_just_added():
    head, content = np.ones((40, 204)), random_rows(40)
    np.testing.assert_allclose(combined(head, content), head + content, atol=1e-9)
    np.testing.assert_allclose(combined(head, content, Amplitudes(position=0.5)), 0.5 + content, atol=1e-9)
    assert not np.allclose(combined(head, content, calibrate=True), head + content)


@pytest.mark.parametrize("length", [1, 2, 3, 5, 14, 16])
def test_short_clips_are_finite_and_keep_their_length(length):
    rows = random_rows(length)
    for result in (combined(rows, rows, calibrate=True), smoothed(rows), settled(rows)):
        assert result.shape == rows.shape and np.isfinite(result).all()


def test_the_bridge_of_the_nose_becomes_straight(face):
    rows = np.repeat(face.reshape(1, 204), 10, axis=0)
    rows[:, 81:84] += 3
    bridge = settled(rows).reshape(-1, 68, 3)[:, 27:30]
    np.testing.assert_allclose(bridge[:, 0] - bridge[:, 1], bridge[:, 1] - bridge[:, 2], atol=1e-9)


@pytest.mark.parametrize(("length", "count"), [(0, 0), (46, 0), (47, 1), (200, 2)])
def test_only_blinks_that_fit_are_made(length, count):
    assert len(blink_centres(length)) == count


def test_blinks_follow_seed_and_rate_and_never_meet():
    usual, often = blink_centres(6000), blink_centres(6000, rate=2.0)
    assert blink_centres(6000, seed=1) != usual and blink_centres(6000) == usual
    assert len(often) == pytest.approx(2 * len(usual), rel=0.1) and blink_centres(6000, rate=0) == []
    assert min(np.diff(blink_centres(6000, rate=100.0))) == 25
    window = blink_centres(300, before=1000.5)
    assert window == [round(now - 1000.5) for now in usual if 1010.5 <= now < 1284.5] and len(window) > 1


def test_eyes_shut_in_the_named_rows_and_open_again(face):
    clip = np.repeat(face[None], 80, axis=0)
    blinked = blinking(clip, [30])
    opening = blinked[:, 41, 1] - blinked[:, 37, 1]
    assert opening[30] == pytest.approx(0) and opening.argmin() == 30
    assert (np.diff(opening[20:31]) < 0).all() and (np.diff(opening[30:45]) > 0).all()
    np.testing.assert_allclose(opening[[0, 20, 45, 79]], 0.9 * (clip[0, 41, 1] - clip[0, 37, 1]))
    np.testing.assert_array_equal(np.delete(blinked, [37, 38, 40, 41, 43, 44, 46, 47], axis=1),
                                  np.delete(clip, [37, 38, 40, 41, 43, 44, 46, 47], axis=1))  # fmt: skip


# -- drawing -----------------------------------------------------------------------------------------------------------


def test_a_smaller_drawing_is_the_average_of_the_large_one(face):
    points = in_picture(face, size=70)
    large, small = draw_landmarks(points), draw_landmarks(points, 64)
    averages = large.reshape(64, 4, 64, 4, 3).astype(float).mean(axis=(1, 3))
    assert small.shape == (64, 64, 3) and np.abs(small - averages).max() <= 0.5 + 1e-9


def test_an_open_mouth_is_open_in_the_small_drawing_too(face):
    open_face = face.copy()
    open_face[65:68, 1] += 0.2
    shut, opened = (draw_landmarks(in_picture(shape, size=70), 96).astype(int) for shape in (face, open_face))
    assert np.abs(shut - opened).max() > 100


def test_points_outside_are_cut_at_the_edge_and_far_ones_are_no_error(face):
    points = in_picture(face, size=70)
    assert (draw_landmarks(points + 400) == 255).all()
    points[8] = (1e12, -1e12, 0)
    assert draw_landmarks(points).shape == (256, 256, 3)


def test_drawings_that_are_not_defined_are_refused(face):
    with pytest.raises(ValueError, match="a face of 67 points has no lines; known: 68, 74, 98"):
        draw_landmarks(face[:67])
    with pytest.raises(ValueError, match="at most 256 pixels a side, got 512"):
        draw_landmarks(face, 512)
