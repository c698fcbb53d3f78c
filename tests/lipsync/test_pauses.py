"""Pauses of a sound: where they are, and what is left of it in them."""

from __future__ import annotations

import numpy as np

from talkingface.lipsync.pauses import Pauses, quiet_frames


def speech(*parts: tuple[float, float]) -> np.ndarray:
    """Tones of given seconds and amplitudes."""
    return np.concatenate([a * np.sin(np.arange(int(s * 16000)) / 5).astype(np.float32) for s, a in parts])


def test_mouths_shut_slowly_in_the_middle_of_a_pause_and_stay_shut():
    audio = speech((1, 0.5), (1, 0.002), (1, 0.5))
    shut = Pauses.of(audio, 75).shut
    assert (shut[:25] == 0).all() and (shut[50:] == 0).all() and (shut[32:43] == 1).all()
    assert ((np.diff(shut[:40]) >= 0) & (np.diff(shut[:40]) <= 0.21)).all(), "no jump"


def test_a_pause_is_hushed_and_speech_is_left_as_it_is():
    audio = speech((1, 0.5), (1, 0.002), (1, 0.5))
    before, pauses = audio.copy(), Pauses.of(audio, 75)
    hushed = pauses.hushed(audio)
    assert (audio == before).all() and hushed.dtype == np.float32
    assert (hushed[:16000] == audio[:16000]).all() and (hushed[33000 - 11000 : 27000] == 0).all()
    none = Pauses.none(75)
    assert none.hushed(audio) is audio


def test_a_closure_inside_a_word_is_no_pause():
    assert not Pauses.of(speech((1, 0.5), (0.12, 0.0), (1, 0.5)), 53).shut.any()


def test_how_short_a_pause_is_and_how_near_to_speech_can_be_told():
    audio = speech((1, 0.5), (0.3, 0.0), (1, 0.5))
    rate = 62.5
    quiet = quiet_frames(audio, 144, rate, run=13, edge=0)
    assert 13 <= quiet.sum() <= 20 and quiet[65:78].all()
    assert quiet_frames(audio, 144, rate, run=13, edge=3).sum() == quiet.sum() - 6
    assert not quiet_frames(audio, 144, rate, run=21, edge=0).any()
