"""The log-mel spectrogram: equal to librosa's, and its windows by the published rules."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from talkingface.sound import mel as module
from talkingface.sound.mel import (
    MelConfig,
    cut_windows,
    frame_columns,
    mel_basis,
    mel_window_start,
    mel_windows,
    melspectrogram,
)


@pytest.fixture(scope="module")
def speech():
    """Two seconds of something speech-like: a gliding harmonic tone, syllables, a little noise."""
    time = np.arange(32000) / 16000
    phase = 2 * np.pi * np.cumsum(120 + 40 * np.sin(2 * np.pi * 0.7 * time)) / 16000
    voice = sum(np.sin(k * phase) / k for k in range(1, 30))
    syllables = np.clip(np.sin(2 * np.pi * 3 * time), 0, 1)
    noise = np.random.default_rng(0).normal(0, 0.003, len(time))
    return (0.2 * voice * syllables + noise).astype(np.float32)


@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
def test_equals_librosa(speech, pad_mode):
    librosa = pytest.importorskip("librosa")
    emphasised = librosa.effects.preemphasis(speech.astype(np.float64), coef=0.97, zi=[0.0])
    stft = librosa.stft(emphasised, n_fft=800, hop_length=200, win_length=800, pad_mode=pad_mode)
    basis = librosa.filters.mel(sr=16000, n_fft=800, n_mels=80, fmin=55, fmax=7600)
    level = 20 * np.log10(np.maximum(1e-5, basis @ np.abs(stft))) - 20
    wanted = np.clip(8 * (level + 100) / 100 - 4, -4, 4)
    found = melspectrogram(speech, MelConfig(pad_mode=pad_mode))
    assert found.shape == wanted.shape == (80, 161) and found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=2e-6)


@pytest.mark.parametrize("config", [MelConfig(), MelConfig(22050, 1024, 256, 1024, 40, 0.0, 8000.0)])
def test_filters_equal_librosa(config):
    librosa = pytest.importorskip("librosa")
    wanted = librosa.filters.mel(
        sr=config.sample_rate, n_fft=config.n_fft, n_mels=config.n_mels, fmin=config.fmin, fmax=config.fmax
    )
    np.testing.assert_allclose(mel_basis(config), wanted, atol=1e-8)


def test_a_shorter_window_equals_librosa(speech):
    librosa = pytest.importorskip("librosa")
    config = MelConfig(n_fft=1024, win=600)
    wanted = np.abs(librosa.stft(speech.astype(np.float64), n_fft=1024, hop_length=200, win_length=600))
    found = np.concatenate(list(module.magnitudes(speech.astype(np.float64), config)), axis=1)
    np.testing.assert_allclose(found, wanted, atol=1e-4)  # librosa builds its window in float32


def test_long_audio_in_blocks_equals_one_block(speech, monkeypatch):
    whole = melspectrogram(speech)
    monkeypatch.setattr(module, "_BLOCK", 7)
    np.testing.assert_array_equal(melspectrogram(speech), whole)


def test_silence_is_the_lowest_level():
    assert (melspectrogram(np.zeros(4000, np.float32)) == -4).all()
    assert melspectrogram(np.zeros(4000, np.float32)).shape == (80, 21)


def test_the_waveform_is_not_rescaled(speech):
    difference = melspectrogram(speech) - melspectrogram(speech / 10)
    inside = (np.abs(melspectrogram(speech)) < 4) & (melspectrogram(speech / 10) > -4)
    np.testing.assert_allclose(difference[inside], 8 * 20 / 100, atol=1e-4)  # a tenth is 20 dB


@pytest.mark.parametrize("audio", [np.zeros(0), np.zeros((2, 4000))])
def test_wrong_waveforms(audio):
    with pytest.raises(ValueError, match="non-empty mono waveform"):
        melspectrogram(audio)


@pytest.mark.parametrize("values", [{"win": 900}, {"fmax": 9000.0}, {"fmin": 8000.0}])
def test_wrong_parameters(values):
    with pytest.raises(ValueError, match="win must|mel bands"):
        MelConfig(**values)


def test_window_starts_follow_the_published_rule():
    assert [mel_window_start(f) for f in (2, 3, 4, 7, 9, 27)] == [0, 3, 6, 16, 22, 80]
    assert [mel_window_start(f) for f in (0, 1)] == [-7, -4]  # floored: truncation would give -6 and -3
    assert mel_window_start(32, fps=30.0) == 80


def test_windows_are_centred_on_their_frames():
    mel = np.zeros((80, 400), np.float32)
    mel[:, 163:165] = 1.0  # about 2.04 s, the middle of frame 51
    loud = mel_windows(mel, range(100)).sum(axis=1)
    (centre,) = [f for f in range(100) if loud[f].argmax() in (7, 8) and loud[f].any()][:1]
    assert abs(centre - 51) <= 1


def test_windows_beyond_the_ends_repeat_the_outermost_column():
    mel = np.arange(100, dtype=np.float32)[None].repeat(80, 0)
    windows = mel_windows(mel, [0, 1, 2, 31])
    assert windows.shape == (4, 80, 16) and windows.dtype == np.float32 and windows.flags.c_contiguous
    assert windows[0, 0].tolist() == [0] * 7 + list(range(9))
    assert windows[1, 0].tolist() == [0] * 4 + list(range(12))
    assert windows[2, 0].tolist() == list(range(16))
    assert windows[3, 0].tolist() == [*range(92, 100), *[99] * 8]


def test_every_frame_of_the_published_loop_gets_the_same_window(speech):
    mel = melspectrogram(speech)
    starts = [int(3.2 * i) for i in range(mel.shape[1]) if int(3.2 * i) + 16 <= mel.shape[1]]
    assert starts[:6] == [0, 3, 6, 9, 12, 16]
    windows = mel_windows(mel, np.arange(len(starts)) + 2)
    for start, window in zip(starts, windows, strict=True):
        np.testing.assert_array_equal(window, mel[:, start : start + 16])


def test_it_needs_no_librosa():
    code = "import sys; sys.modules.update(librosa=None, scipy=None, torch=None, av=None); import talkingface.sound.mel"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_windows_that_begin_with_their_frame_by_hand():
    assert frame_columns(np.arange(8)).tolist() == [0, 3, 6, 9, 12, 16, 19, 22]
    assert frame_columns(np.arange(1, 5), offset=-1).tolist() == [0, 3, 6, 9]
    assert frame_columns(np.array([0, 1, 2]), fps=50).tolist() == [0, 1, 3]
    assert frame_columns(np.array([0, 2]), fps=50, offset=-1).tolist() == [
        -4,
        0,
    ]  # frame 2 of 50 per second is at 40 ms


def test_a_window_beyond_an_end_repeats_the_outermost_column():
    mel = np.arange(20.0)[None].repeat(2, axis=0)
    cut = cut_windows(mel, np.array([-3, 2, 10]))
    assert cut.shape == (3, 2, 16) and cut[0, 0].tolist() == [0, 0, 0, *range(13)]
    assert cut[1, 1].tolist() == list(range(2, 18)) and cut[2, 0].tolist() == [*range(10, 20), *[19] * 6]
