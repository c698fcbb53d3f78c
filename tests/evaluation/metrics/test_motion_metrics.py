"""Jitter, motion in silence and the answer to another audio, on cases computed by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from helpers.toy_tracks import face, give_frames, sample, track
from talkingface.config.sections import EvaluationConfig
from talkingface.errors import DataError
from talkingface.evaluation.metrics.jitter import Jitter, mouth_jitter, pixel_jitter, second_difference
from talkingface.evaluation.metrics.silence import Silence, quiet_frames
from talkingface.evaluation.metrics.swap import AudioSwap, frame_change, response

GREY = np.full((120, 100, 3), 100, np.uint8)


def grey(level: int, box: tuple[int, int, int, int] = (0, 0, 100, 120), on: np.ndarray = GREY) -> np.ndarray:
    """A copy of the frame with one level inside a box (x1, y1, x2, y2)."""
    frame = on.copy()
    frame[box[1] : box[3], box[0] : box[2]] = level
    return frame


def tone(loud: np.ndarray) -> np.ndarray:
    """Sound at 25 frames per second whose amplitude is that of each frame."""
    return (np.repeat(loud, 640) * np.where(np.arange(640 * len(loud)) % 8 < 4, 1, -1)).astype(np.float32)


# -- jitter ------------------------------------------------------------------------------------------------------------


def test_even_motion_is_no_jitter_and_trembling_is_its_second_difference():
    even = track([face(shift=(2.0 * t, -t)) for t in range(6)])
    trembling = track([face(shift=(t % 2, 0)) for t in range(6)])  # 0 1 0 1: second differences of 2 pixels
    frames = [GREY] * 6
    assert Jitter().score(give_frames(sample(even, even), frames, frames)) == pytest.approx(
        {"jitter": 0, "jitter_iod": 0, "jitter_upper": 0, "jitter_mouth": 0, "jitter_pixels": 0}, abs=1e-5
    )
    got = Jitter().score(give_frames(sample(trembling, even), frames, frames))
    assert got == pytest.approx(
        {"jitter": 2, "jitter_iod": 2 / 40, "jitter_upper": 2, "jitter_mouth": 0, "jitter_pixels": 0}
    )


def test_a_mouth_that_moves_leaves_the_upper_face_still():
    talking = track([face(opening=4.0 * (t % 2)) for t in range(5)])
    s = give_frames(sample(talking, talking), [GREY] * 5, [GREY] * 5)
    got = Jitter().score(s)
    assert got["jitter"] == pytest.approx(2 * 4 / 68)  # two inner lips, each 2 px up or down
    assert got["jitter_upper"] == 0 and got["jitter_mouth"] == pytest.approx(2 * 4 / 20)
    assert (s.frames["jitter"], s.frames["jitter_pixels"]) == (3, 3)


def turned(points: np.ndarray, degrees: float, scale: float = 1.0, shift: tuple[float, float] = (0, 0)) -> np.ndarray:
    """The same points, turned about the origin, scaled and moved."""
    a = math.radians(degrees)
    turn = np.array([[math.cos(a), math.sin(a)], [-math.sin(a), math.cos(a)]])
    return scale * points @ turn + shift


def test_a_mouth_trembles_against_its_own_head_and_not_with_it():
    """Lips 0 1 0 1 pixels aside of their place: second differences of 2 pixels, whatever the head does."""
    heads = [(0, (0, 0)), (9, (3, -5)), (-4, (30, 2)), (2, (-8, 1)), (15, (0, 40))]
    still, lips = [face(opening=6)] * 5, []
    for t in range(5):
        lips.append(face(opening=6))
        lips[t][48:68] += (t % 2, 0)
    found = np.ones(5, bool)
    rigid = np.array([turned(points, degrees, shift=shift) for points, (degrees, shift) in zip(still, heads)])
    trembling = np.array([turned(points, degrees, shift=shift) for points, (degrees, shift) in zip(lips, heads)])
    assert second_difference(rigid, found).mean() > 10
    np.testing.assert_allclose(mouth_jitter(rigid, found), np.zeros((3, 20)), atol=1e-9)
    np.testing.assert_allclose(mouth_jitter(trembling, found), np.full((3, 20), 2.0))
    nearing = np.array([turned(points, 3.0 * t, 1 + 0.1 * t**2) for t, points in enumerate(still)])
    np.testing.assert_allclose(mouth_jitter(nearing, found), np.zeros((3, 20)), atol=1e-9)
    s = give_frames(sample(track(trembling), track(still)), [GREY] * 5, [GREY] * 5)
    got = Jitter().score(s)
    assert got["jitter_mouth"] == pytest.approx(2.0, abs=1e-4) and s.frames["jitter_mouth"] == 3
    assert "brows, nose and eyes" in Jitter().definitions()["jitter_mouth"]["aligned"]
    assert Jitter().definitions()["jitter_mouth"]["layout"] == "ibug68"


def test_jitter_counts_detected_frames_that_follow_each_other():
    found = [True, True, True, False, True, True]
    moved = [face(shift=(t % 2, 0)) for t in range(3)] + [face(shift=(500, 0))] + [face()] * 2
    s = give_frames(sample(track(moved, found), track([face()] * 6)), [GREY] * 6, [GREY] * 6)
    assert Jitter().score(s)["jitter"] == pytest.approx(2.0)
    assert (s.frames["jitter"], s.excluded["jitter"]) == (1, 3)
    assert second_difference(np.zeros((2, 68, 2)), np.ones(2, bool)).shape == (0, 68)
    assert mouth_jitter(np.zeros((2, 68, 2)), np.ones(2, bool)).shape == (0, 20)


def test_too_short_a_clip_has_no_jitter_rather_than_none():
    short = track([face()] * 2)
    values = Jitter().score(give_frames(sample(short, short), [GREY] * 2, [GREY] * 2))
    assert all(map(math.isnan, values.values()))


def test_pixels_count_inside_the_face_and_outside_the_mouth():
    boxes, mouths = np.array([[10.0, 20, 60, 80]] * 4), np.array([[30.2, 50.5, 40, 60]] * 4)
    frames = []
    for t in range(4):
        frame = grey(200 * (t % 2))  # the background flickers
        frame = grey(100 + 5 * (t % 2), (10, 20, 60, 80), frame)
        frame = grey(100, (30, 20, 40, 50), frame)  # above the mouth: 10 by 30 of 50 by 60 less 10 by 10
        frames.append(grey(255 * (t % 2), (30, 50, 40, 60), frame))
    level = 10.0 * (2900 - 300) / 2900  # 105 - 200 + 105
    assert pixel_jitter(frames, boxes, mouths) == pytest.approx([level, level])
    boxes[2] = np.nan
    assert pixel_jitter(iter(frames), boxes, mouths) == pytest.approx([level, math.nan], nan_ok=True)
    assert all(map(math.isnan, pixel_jitter(frames, boxes[:1], mouths[:1])))


# -- silence -----------------------------------------------------------------------------------------------------------


def test_pauses_are_found_off_the_edges_of_speech():
    loud = np.full(60, 0.5)
    loud[20:40] = 0.001  # -54 dB; loudness looks one frame to either side, so 21 to 39 are silent
    loud[50:54] = 0.0  # too short
    assert np.flatnonzero(quiet_frames(tone(loud), 60)).tolist() == list(range(24, 37))
    assert not quiet_frames(tone(loud), 60, level_db=-60.0).any()
    assert np.flatnonzero(quiet_frames(tone(loud), 60, level_db=-53.0)).tolist() == list(range(24, 37))


def test_the_ends_of_a_clip_are_no_speech_and_a_silent_clip_is_one_pause():
    loud = np.full(30, 0.5)
    loud[22:] = 0.0
    assert np.flatnonzero(quiet_frames(tone(loud), 30)).tolist() == [26, 27, 28, 29]
    loud[22:25] = 0.5  # 26 to 29 are silent, the last of them off the edge, but that is no pause
    assert not quiet_frames(tone(loud), 30).any()
    assert quiet_frames(np.zeros(30 * 640, np.float32), 30).all()
    assert not quiet_frames(tone(np.full(30, 0.5)), 30).any()
    assert quiet_frames(np.zeros(0, np.float32), 0).shape == (0,)


def test_only_motion_in_the_pause_counts():
    loud = np.full(40, 0.5)
    loud[10:30] = 0.0  # quiet: 14 to 26
    opened = np.where((np.arange(40) >= 14) & (np.arange(40) < 27), 4.0 * (np.arange(40) % 2), 30.0)
    found = np.ones(40, bool)
    found[20] = False
    moving = track([face(o) for o in opened], found)
    s = sample(moving, moving, audio=lambda: tone(loud))
    values = Silence().score(s)
    assert values["silence_motion"] == pytest.approx(4 / 100)  # the face is 100 px high
    assert values["silence_opening"] == pytest.approx(4 * 6 / 12 / 100)
    assert (s.frames["silence_motion"], s.excluded["silence_motion"]) == (10, 2)
    assert (s.frames["silence_opening"], s.excluded["silence_opening"]) == (12, 1)
    assert s.notes == []
    still = track([face(2.0)] * 40)
    assert Silence().score(sample(still, still, audio=lambda: tone(loud)))["silence_motion"] == 0.0


def test_a_clip_without_a_pause_is_noted_and_left_out_of_the_mean():
    still = track([face(2.0)] * 40)
    loud = np.full(40, 0.5)
    loud[10:30] = 0.05  # -20 dB
    talking = sample(still, still, audio=lambda: tone(loud))
    metric = Silence()
    assert all(map(math.isnan, metric.update(talking).values()))
    assert "no pause" in talking.notes[0]
    assert metric.compute() == {}
    softer = Silence(EvaluationConfig(silence_db=-15.0))
    assert softer.score(sample(still, still, audio=lambda: tone(loud)))["silence_motion"] == 0.0


# -- swap --------------------------------------------------------------------------------------------------------------


def test_response_is_the_change_over_the_change_of_people():
    base = np.array([1.0, 2.0, 3.0, 4.0, np.nan])
    assert response((base + 1, base), (base + 4, base)) == (0.25, 4, 1)
    assert response((base, base), (base + 4, base))[0] == 0.0
    assert response((base + [3, -3, 3, -3, 0], base), (base + 3, base))[0] == pytest.approx(1.0)
    assert math.isnan(response((base + 1, base), (base, base))[0])
    assert math.isnan(response((base * np.nan, base), (base + 1, base))[0])
    assert response((base[:2] + 1, base), (base + 2, base))[1:] == (2, 0), "as long as the shortest"


def test_frame_change_inside_and_outside_a_box():
    changed = grey(90, (10, 20, 30, 40))
    assert frame_change(changed, GREY, np.array([10.0, 20, 30, 40])) == (10.0, 0.0)
    inside, outside = frame_change(changed, GREY, np.array([20.0, 20, 40, 40]))
    assert inside == pytest.approx(5.0)
    assert outside == pytest.approx(10 * 10 * 20 / (120 * 100 - 400))
    assert all(map(math.isnan, frame_change(changed, GREY, np.full(4, np.nan))))


def swapped(made, own, true, donor, frames, counterpart):
    tracks = {Path("g.mp4"): track([face(o) for o in made]), Path("own.mp4"): track([face(o) for o in own])}
    s = sample(
        None, track([face(o) for o in true]), donor_track=lambda: track([face(o) for o in donor]),
        counterpart=Path("own.mp4"),
    )  # fmt: skip
    s.tracker = lambda path, frames: tracks[path]
    return give_frames(s, frames, counterpart=counterpart)


def test_swap_scores_the_shuffled_video_against_its_counterpart():
    rng = np.random.default_rng(0)
    true, donor = rng.uniform(0, 20, (2, 6))
    half = true + (donor - true) / 2  # goes half the way that people go
    box = (24, 59, 76, 91)  # the mouth's box: 30 px wide, 10 high, and 10.5 px on every side
    frames = [grey(108, box)] * 6
    s = swapped(half, true, true, donor, frames, [GREY] * 6)
    values = AudioSwap().score(s)
    assert values["swap_opening"] == pytest.approx(0.5, abs=1e-5)
    assert values["swap_mouth"] == pytest.approx(8.0)
    assert values["swap_rest"] == 0.0
    deaf = AudioSwap().score(swapped(true, true, true, donor, frames, frames))
    assert deaf == {"swap_opening": 0.0, "swap_mouth": 0.0, "swap_rest": 0.0}


def test_swap_says_nothing_about_rows_without_counterpart_and_refuses_other_sizes():
    still = track([face()] * 3)
    assert AudioSwap().score(sample(still, still)) == {}
    s = swapped([1, 2, 3], [1, 2, 3], [1, 2, 3], [3, 2, 1], [GREY] * 3, [GREY[:60]] * 3)
    with pytest.raises(DataError, match=r"g\.mp4: its frames are not as large as those of own\.mp4"):
        AudioSwap().score(s)
