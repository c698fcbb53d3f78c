"""The pitch of a voice: our tracker finds it, and how it is told to AutoVC."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from talkingface.errors import DataError
from talkingface.sound.pitch import RANGES, correlation_pitch, pitch_bins, pitch_rows, relative_pitch, track_pitch


def voice(hertz: np.ndarray | float, seconds: float = 1.0, noise: float = 0.005) -> np.ndarray:
    """Harmonics of a gliding tone with formants of a sort, and a little noise."""
    time = np.arange(int(16000 * seconds)) / 16000
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(hertz, time.shape)) / 16000
    tone = sum(np.sin(k * phase) / (1 + abs(k * 130 - 500) / 200) for k in range(1, 16))
    return 0.1 * tone + np.random.default_rng(0).normal(0, noise, len(time))


@pytest.mark.parametrize("hertz", [60.0, 90.0, 130.0, 210.0, 330.0, 550.0])
def test_steady_voices_are_found_without_octave_errors(hertz):
    found = correlation_pitch(voice(hertz), 50, 600)
    inner = found[3:-3]
    assert np.isfinite(inner).mean() > 0.95
    assert np.abs(np.exp(inner[np.isfinite(inner)]) / hertz - 1).max() < 0.02


def test_a_glide_is_followed():
    hertz = np.linspace(110, 240, 32000)
    found = np.exp(correlation_pitch(voice(hertz, 2.0), 50, 600))
    np.testing.assert_allclose(found[4:-4], np.interp(np.arange(4, 122) * 256, np.arange(32000), hertz), rtol=0.03)


def test_noise_and_silence_are_unvoiced():
    noise = np.random.default_rng(1).normal(0, 0.1, 32000)
    assert np.isfinite(correlation_pitch(noise, 50, 600)).mean() < 0.1
    assert not np.isfinite(correlation_pitch(np.zeros(16000), 50, 600)).any()
    assert not np.isfinite(correlation_pitch(1e-4 * voice(120.0), 50, 600)).any()


def test_pauses_are_told_from_the_voice():
    spoken = voice(150.0, 2.0)
    spoken[12000:20000] *= 0.001
    found = np.isfinite(correlation_pitch(spoken, 50, 600))
    assert found[4:44].all() and found[82:122].all() and not found[50:76].any()


@pytest.mark.parametrize("samples", [1, 100, 255, 256, 257, 4000])
def test_it_has_as_many_rows_as_the_mel(samples):
    assert len(correlation_pitch(np.random.default_rng(0).normal(size=samples), *RANGES["F"])) == samples // 256 + 1


def test_long_sound_in_blocks_equals_one_block(monkeypatch):
    spoken = voice(np.linspace(100, 200, 48000), 3.0)
    whole = correlation_pitch(spoken, 50, 600)
    monkeypatch.setattr("talkingface.sound.pitch._BLOCK", 13)
    np.testing.assert_allclose(correlation_pitch(spoken, 50, 600), whole)


def test_the_range_decides_who_is_heard_and_auto_chooses_it():
    low, high = voice(80.0), voice(300.0)
    assert not np.isfinite(track_pitch(low, "F", "correlation")).any()
    assert np.isfinite(track_pitch(low, "M", "correlation")).mean() > 0.9
    for sound, hertz in ((low, 80), (high, 300)):
        found = track_pitch(sound, "auto", "correlation")
        assert np.exp(np.nanmedian(found)) == pytest.approx(hertz, rel=0.02)
    octave_up = np.concatenate([voice(100.0, 2.0), voice(400.0, 0.5)])
    assert np.nanmax(track_pitch(octave_up, "auto", "correlation")) <= np.log(RANGES["M"][1])


@pytest.mark.skipif(importlib.util.find_spec("pysptk") is not None, reason="pysptk is installed")
def test_without_pysptk_the_published_tracker_is_refused_and_ours_is_the_default():
    with pytest.raises(DataError, match="rapt needs the package pysptk, which is not installed"):
        track_pitch(voice(120.0), "M", "rapt")
    np.testing.assert_array_equal(track_pitch(voice(120.0), "M"), track_pitch(voice(120.0), "M", "correlation"))


def test_pitch_is_told_beside_its_own_mean():
    log_f0 = np.array([5.0, np.nan, 5.2, 4.8, 5.0])
    relative = relative_pitch(log_f0)
    assert np.isnan(relative[1]) and relative[0] == relative[4] == 0.5
    assert relative[2] - 0.5 == pytest.approx(0.2 / np.sqrt(0.02) / 8)
    assert pitch_bins(relative)[:2].tolist() == [129, 0]  # 127.5 rounds to the even 128
    outlier = np.append(np.full(99, 5.0), 9.0)
    assert relative_pitch(outlier)[-1] == 1 and pitch_bins(relative_pitch(outlier))[-1] == 256


@pytest.mark.parametrize("log_f0", [np.full(4, np.nan), np.full(4, 5.0), np.array([np.nan, 5.0])])
def test_a_voice_without_a_pitch_of_its_own_is_unvoiced(log_f0):
    assert (pitch_bins(relative_pitch(log_f0)) == 0).all()


def test_rows_are_one_hot():
    rows = pitch_rows(np.array([0, 256, 3]))
    assert rows.shape == (3, 257) and rows.dtype == np.float32 and rows.argmax(axis=1).tolist() == [0, 256, 3]
    assert (rows.sum(axis=1) == 1).all()
