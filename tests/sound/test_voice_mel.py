"""The mel of a voice: length, level, silence; its published numbers are compared in `tests/parity`."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy.signal import butter, filtfilt

from talkingface.sound import voice_mel
from talkingface.sound.voice_mel import Level, as_pcm, level_db, levelled, row_count
from talkingface.sound.voice_mel import voice_mel as rows_of


@pytest.fixture(scope="module")
def tone():
    time = np.arange(16000) / 16000
    return (0.1 * np.sin(2 * np.pi * 440 * time) * (time > 0.5)).astype(np.float32)


@pytest.mark.parametrize("samples", [1, 2, 17, 255, 256, 257, 512, 513, 16000])
def test_every_length_has_its_rows_and_they_are_finite(samples):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, samples)
    for sound in (noise, np.zeros(samples)):
        rows = rows_of(sound)
        assert rows.shape == (samples // 256 + 1, 80) == (row_count(samples), 80) and rows.dtype == np.float32
        assert np.isfinite(rows).all()


def test_silence_is_the_lowest_value():
    assert rows_of(np.zeros(5000)) == pytest.approx(voice_mel.SILENCE, abs=1e-6)


def test_a_row_stands_where_its_sound_is(tone):
    loudness = rows_of(tone).mean(axis=1)
    assert loudness[:29].max() < loudness[33:].min() and loudness[31] > loudness[28]


def test_how_loud_the_file_is_does_not_matter():
    noise = np.random.default_rng(0).uniform(-0.2, 0.2, 8000)
    np.testing.assert_allclose(rows_of(noise / 5), rows_of(noise), atol=0.02)


def test_what_lies_below_30_hz_is_gone():
    time = np.arange(32000) / 16000
    voice = 0.1 * np.sin(2 * np.pi * 300 * time)
    hum = voice + 0.3 * np.sin(2 * np.pi * 8 * time)
    clean, cleaned = voice_mel.high_passed(voice), voice_mel.high_passed(hum)
    assert np.abs(clean - cleaned)[4000:-4000].max() < 1e-3


@pytest.mark.parametrize("samples", [1, 2, 10, 18, 19, 20, 1000, 150_001])
def test_filtering_block_by_block_gives_what_scipy_gives(samples):
    noise = np.random.default_rng(0).normal(0, 0.1, samples)
    coefficients = butter(5, 30.0, btype="highpass", fs=16000)
    whole = filtfilt(*coefficients, noise, padlen=min(18, samples - 1))
    dither = (np.random.RandomState(0).random_sample(samples) - 0.5) * 1e-6
    np.testing.assert_array_equal(voice_mel.high_passed(noise), 0.95 * whole + dither)


def test_a_long_sound_is_filtered_in_its_own_memory_and_one_copy():
    """A copy in float64 has 128 kB per second; all at once it took four."""
    most = {}
    for seconds in (20, 80):
        noise = np.random.default_rng(0).normal(0, 0.1, seconds * 16000).astype(np.float32)
        tracemalloc.start()
        voice_mel.voice_signal(noise)
        most[seconds] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert most[80] - most[20] < 60 * 16000 * 8 * 2.5


def test_samples_become_whole_numbers_towards_zero_and_gain_rounds_down():
    assert as_pcm(np.array([0.5 / 32767, -0.9 / 32767, 1.0, -1.0, 1.5, -1.5])).tolist() == [
        0, 0, 32767, -32767, 32767, -32768,
    ]  # fmt: skip
    loud = levelled(np.array([3000, -3000, 1, -1] * 10, np.int16))
    assert level_db(loud) == pytest.approx(-20, abs=0.01) and loud[3] == np.floor(-loud[0] / 3000)


def test_a_voice_in_windows_is_as_loud_as_all_of_it_that_was_heard():
    pcm = as_pcm(np.repeat([0.3, 0.01], 800) * np.sin(np.arange(1600)))
    level = Level()
    for first, stop in ((0, 700), (400, 1000), (400, 1000), (900, 1600)):
        assert level.hear(pcm[first:stop], first) == level_db(pcm[:stop])


def test_silence_keeps_its_level():
    silent = np.zeros(100, np.int16)
    assert level_db(silent) == -np.inf and (levelled(silent) == 0).all()


@pytest.mark.parametrize("audio", [np.zeros(0), np.zeros((2, 4000))])
def test_wrong_waveforms(audio):
    with pytest.raises(ValueError, match="non-empty mono waveform"):
        rows_of(audio)
