"""Rows that recognisers give: as many as frames, finite in silence, in place; the user's samples are left alone."""

from __future__ import annotations

import numpy as np
import pytest

from talkingface.networks.deepspeech2 import DeepSpeech2
from talkingface.sound.front_ends import front_end_kind
from talkingface.sound.mfcc import mfcc, pcm16
from talkingface.sound.recogniser import (
    context_windows,
    deepspeech2_input,
    deepspeech_input,
    fitted,
    frame_rows,
    frame_windows,
    logmel,
)


def noise(seconds: float) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, round(16000 * seconds)).astype(np.float32)


@pytest.fixture(scope="module")
def network() -> DeepSpeech2:
    return DeepSpeech2(hidden=8, layers=2).eval()


EXTRACTORS = ["logmel", "deepspeech", "deepspeech2"]


def extract(name: str, audio: np.ndarray, network: DeepSpeech2) -> np.ndarray:
    return {"logmel": logmel, "deepspeech": deepspeech_input, "deepspeech2": network.extract}[name](audio)


@pytest.mark.parametrize("name", EXTRACTORS)
@pytest.mark.parametrize("frames", [1, 2, 7, 25])
def test_fitted_sound_gives_a_row_for_every_frame(name, frames, network):
    for length in (frames * 640 - 300, frames * 640, frames * 640 + 5000):
        audio = noise(3)[:length]
        rows = extract(name, fitted(audio, frames), network)
        each = np.arange(frames)
        assert frame_rows(rows, each).shape == frame_rows(rows, each, "mean").shape == (frames, rows.shape[1])
        assert len(rows) in (2 * frames, 2 * frames + 1)


@pytest.mark.parametrize("name", EXTRACTORS)
def test_silence_gives_finite_rows(name, network):
    assert np.isfinite(extract(name, np.zeros(16000, np.float32), network)).all()


@pytest.mark.parametrize("name", EXTRACTORS)
def test_samples_are_not_written_to(name, network):
    audio = noise(0.5)
    audio.setflags(write=False)
    extract(name, fitted(audio, 20), network)
    extract(name, audio, network)


def test_fitted_cuts_or_fills_up_with_silence():
    audio = np.ones(1000, np.float32)
    assert fitted(audio, 1).tolist() == [1.0] * 640
    assert fitted(audio, 2).tolist() == [1.0] * 1000 + [0.0] * 280


def test_a_frame_has_every_second_row_or_the_mean_of_two():
    rows = np.arange(5.0)[:, None] ** 2
    assert frame_rows(rows, np.arange(2)).tolist() == [[0.0], [4.0]]
    assert frame_rows(rows, np.arange(3), "mean").tolist() == [[0.5], [6.5], [16.0]]
    assert frame_rows(rows, np.array([[2, 0]]), "mean").tolist() == [[[16.0], [0.5]]]


def test_windows_are_centred_and_repeat_the_outermost_row():
    rows = np.arange(4.0)[:, None]
    assert frame_windows(rows)[:, 0].tolist() == [[0, 0, 0, 1, 2], [0, 0, 1, 2, 3], [0, 1, 2, 3, 3], [1, 2, 3, 3, 3]]


def test_a_row_of_the_log_mel_hears_its_own_twenty_milliseconds():
    audio = np.zeros(3200, np.float32)
    audio[320 * 4 : 320 * 5] = noise(1)[:320]
    loudness = logmel(audio).mean(axis=1)
    assert len(loudness) == 10 and loudness.argmax() == 4
    assert (loudness[[0, 1, 2, 6, 7, 8, 9]] == -4).all() and (loudness[[3, 5]] > -4).all()
    front_end = front_end_kind("logmel")()
    np.testing.assert_array_equal(front_end.extract(audio), logmel(audio))
    assert front_end.times(10)[4] == pytest.approx(0.09)


def test_deepspeech_hears_windows_of_mean_zero_and_deviation_one():
    """The statistics are computed without the windows; here they are taken of the windows themselves."""
    audio = noise(0.7)
    windows = context_windows(mfcc(pcm16(audio), 26)[::2])
    wanted = (windows - windows.mean()) / windows.std()
    np.testing.assert_allclose(deepspeech_input(audio), wanted, rtol=0, atol=1e-5)


def test_deepspeech2_hears_a_spectrogram_of_mean_zero_and_deviation_one():
    heard = deepspeech2_input(noise(0.7))
    assert heard.mean() == pytest.approx(0, abs=1e-5) and heard.std(ddof=1) == pytest.approx(1, abs=1e-3)
