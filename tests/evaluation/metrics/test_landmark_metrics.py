from __future__ import annotations

import math

import numpy as np
import pytest

from helpers.toy_tracks import face, sample, track
from talkingface.errors import DataError
from talkingface.evaluation.metrics.lmd import LMD, landmark_distances
from talkingface.evaluation.metrics.mouth import Mouth
from talkingface.faces.regions import crop, region_boxes
from talkingface.lipsync.mouth_motion import best_lag, correlation, log_energy


def test_moved_face_by_hand():
    real, moved = face()[None], face(shift=(3.0, 4.0))[None]
    got = {key: float(value[0]) for key, value in landmark_distances(moved, real).items()}
    assert got == pytest.approx({
        "lip_lmd_vico": 3.5, "m_lmd": 5.0, "f_lmd": 5.0, "jaw_lip_lmd": 5.0,
        "m_lmd_aligned": 0.0, "m_lmd_iod": 0.125, "f_lmd_iod": 0.125,
    })  # fmt: skip


def test_opened_mouth_by_hand():
    got = landmark_distances(face(opening=10)[None], face()[None])
    assert got["m_lmd"][0] == pytest.approx(2 * 5 / 20)
    assert got["f_lmd"][0] == pytest.approx(2 * 5 / 68)
    assert got["jaw_lip_lmd"][0] == pytest.approx(2 * 5 / 37)
    assert got["lip_lmd_vico"][0] == pytest.approx(2 * 5 / 40)


def test_frames_without_a_face_in_either_video_do_not_count():
    real = track([face()] * 5, [True, True, False, True, True])
    generated = track([face(shift=(0, 2))] * 3 + [face(shift=(0, 50))], [True, True, True, False])
    s = sample(generated, real)
    assert LMD().score(s)["m_lmd"] == pytest.approx(2.0)
    assert (s.frames["m_lmd"], s.excluded["m_lmd"]) == (2, 2)
    with pytest.raises(DataError, match="no frame has a face"):
        LMD().score(sample(track([face()], [False]), real))


def test_correlation_needs_movement_and_skips_gaps():
    a = np.array([1.0, 2.0, np.nan, 4.0, 9.0])
    b = np.array([3.0, 5.0, 100.0, 9.0, 19.0])  # 2a + 1
    assert correlation(a, b) == pytest.approx(1.0)
    assert correlation(a, -b) == pytest.approx(-1.0)
    assert math.isnan(correlation(a, np.full(5, 0.1)))
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 50))
    assert correlation(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1])


@pytest.mark.parametrize("lag", range(-10, 11))
def test_lag_is_found_with_its_sign(lag):
    series = np.random.default_rng(1).normal(size=80)
    leader, follower = series[20:60], series[20 - lag : 60 - lag]  # follower[t] = leader[t - lag]
    got, peak = best_lag(leader, follower)
    assert got == lag
    assert peak == pytest.approx(1.0)


def test_lag_of_a_still_mouth_is_undefined():
    assert all(map(math.isnan, best_lag(np.random.default_rng(0).normal(size=40), np.zeros(40))))
    assert all(map(math.isnan, best_lag(np.arange(5.0), np.arange(5.0))))


def test_log_energy_is_centred_on_the_frame():
    audio = np.zeros(16000, np.float32)
    audio[10 * 640 - 64 : 10 * 640 + 64] = 0.5  # a click at the time of frame 10
    energy = log_energy(audio, 25)
    assert energy[[9, 10, 11]].min() > energy[[7, 8, 12, 13]].max()
    assert energy.max() == pytest.approx(0.0)
    assert energy.min() == pytest.approx(-50.0)
    assert np.all(log_energy(np.zeros(16000, np.float32), 25) == 0)


def test_mouth_of_a_shuffled_clip_is_compared_with_the_donor():
    rng = np.random.default_rng(3)
    own, donor = rng.uniform(0, 20, (2, 40))
    real, other = track([face(o) for o in own]), track([face(o) for o in donor])
    late = np.roll(donor, 2)  # the picture lags two frames behind the donor's
    carrier = np.sin(np.arange(40 * 640) * 0.9)
    audio = (np.interp(np.arange(40 * 640) / 640, np.arange(40), donor) / 40 * carrier).astype(np.float32)
    values = Mouth().score(sample(track([face(o) for o in late]), real, audio=lambda: audio, donor_track=lambda: other))
    assert values["mouth_corr"] == pytest.approx(correlation(late, own), abs=0.02)
    assert values["mouth_corr_donor"] == pytest.approx(correlation(late, donor), abs=0.02)
    assert values["mouth_lag"] == 2
    assert values["av_lag"] == 2
    assert "mouth_corr_donor" not in Mouth().score(sample(real, real))


def test_region_boxes_by_hand():
    t = track([face(), face(shift=(0, 60))], size=(120, 100))
    boxes = region_boxes(t, "mouth")
    np.testing.assert_allclose(boxes[0], [35 - 10.5, 70 - 10.5, 65 + 10.5, 80 + 10.5])
    np.testing.assert_allclose(boxes[1][1::2], [119.5, 120])  # clipped to the frame
    np.testing.assert_allclose(region_boxes(t, "face")[0], [30, 20, 70, 100])
    t.valid[0] = False
    assert np.isnan(region_boxes(t, "face")[0]).all()


def test_crop_takes_every_touched_pixel():
    frame = np.arange(100 * 3).reshape(10, 10, 3)
    assert crop(frame, np.array([1.2, 2.0, 3.1, 5.0])).shape == (3, 3, 3)
    assert crop(frame, np.full(4, np.nan)) is None
    assert crop(frame, np.array([3.0, 3.0, 3.0, 8.0])) is None
