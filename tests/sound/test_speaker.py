"""Who speaks: silence is cut, windows cover the sound, and statistics tell two voices apart."""

from __future__ import annotations

import numpy as np
import pytest

from talkingface.sound import speaker
from talkingface.sound.speaker import partial_mels, partial_starts, pieces, prepared_voice, voice_statistics


def voice(hertz: float, formant: float, seed: int, seconds: float = 2.0) -> np.ndarray:
    """A voice of a pitch and a timbre that says something else with every seed."""
    random = np.random.default_rng(seed)
    time = np.arange(int(16000 * seconds)) / 16000
    melody = hertz * (1 + 0.1 * np.sin(2 * np.pi * random.uniform(0.5, 2) * time + random.uniform(0, 6)))
    phase = 2 * np.pi * np.cumsum(melody) / 16000
    tone = sum(np.sin(k * phase) / (1 + ((k * hertz - formant) / 300) ** 2) for k in range(1, 25))
    syllables = np.clip(np.sin(2 * np.pi * random.uniform(2, 4) * time), 0.05, 1)
    return (0.1 * tone * syllables + random.normal(0, 0.002, len(time))).astype(np.float32)


def test_statistics_of_one_voice_are_closer_than_those_of_two():
    low, high = ([voice(h, f, seed) for seed in range(3)] for h, f in ((110, 500), (220, 900)))
    vectors = np.stack([voice_statistics(sound) for sound in (*low, *high)])
    assert vectors.shape == (6, 256) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    alike = vectors @ vectors.T
    same = [alike[i, j] for i in range(6) for j in range(i) if i // 3 == j // 3]
    other = alike[:3, 3:]
    assert min(same) > other.max() + 0.2


@pytest.mark.parametrize("sound", [np.zeros(8000), np.zeros(1), np.random.default_rng(0).normal(0, 0.1, 300)])
def test_silence_and_unvoiced_sound_have_finite_statistics(sound):
    assert np.isfinite(voice_statistics(sound)).all()


def test_quiet_sound_is_made_louder_and_loud_sound_is_left_alone():
    loud = voice(120, 500, 0)
    np.testing.assert_array_equal(prepared_voice(loud, "energy"), loud[: len(loud) // 480 * 480])
    quiet = prepared_voice(loud / 100, "energy")
    assert 20 * np.log10(np.sqrt(np.square(quiet).mean())) == pytest.approx(-30, abs=0.2)


def test_long_silence_is_cut_and_short_pauses_stay():
    spoken, pause, rest = voice(120, 500, 0), np.zeros(1600, np.float32), np.zeros(32000, np.float32)
    assert len(prepared_voice(np.concatenate([spoken, pause, spoken]), "energy")) >= 2 * len(spoken)
    cut = prepared_voice(np.concatenate([rest, spoken, rest]), "energy")
    assert len(spoken) <= len(cut) < len(spoken) + 16000


@pytest.mark.parametrize("length", [0, 1, 479, 480])
def test_sound_without_a_voice_is_kept(length):
    assert len(prepared_voice(np.zeros(length), "energy")) == length


def test_windows_of_half_a_second_apart_and_none_that_is_mostly_silence():
    assert partial_starts(100) == [0] and partial_starts(25600) == [0]
    assert partial_starts(16000 * 3) == [0, 50, 100, 150]
    for seconds in np.arange(1.6, 6, 0.1):
        starts = partial_starts(int(16000 * seconds))
        assert all(16000 * seconds - 160 * start >= 0.75 * 25600 for start in starts), seconds
        assert 160 * (starts[-1] + 160) >= 16000 * (seconds - 0.5), seconds


def test_a_short_voice_fills_a_window_up_with_silence():
    mels = partial_mels(voice(120, 500, 0, 0.5))
    assert mels.shape == (1, 160, 40) and mels[0, :50].mean() > 0 and mels[0, 55:].max() < 1e-9


@pytest.mark.parametrize(("seconds", "wanted"), [(1, [1]), (59, [59]), (60, [60]), (119, [60]), (121, [60, 60])])
def test_long_sound_is_cut_into_minutes(seconds, wanted):
    assert [len(piece) / 16000 for piece in pieces(np.zeros(16000 * seconds, np.float32))] == wanted


def test_the_default_detector_is_the_published_one_where_it_is_installed(monkeypatch):
    monkeypatch.setattr(speaker.importlib.util, "find_spec", lambda name: None)
    assert speaker.default_detector() == "energy"
    monkeypatch.setattr(speaker.importlib.util, "find_spec", lambda name: object())
    assert speaker.default_detector() == "webrtc"
