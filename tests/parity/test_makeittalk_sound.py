"""MakeItTalk's sound: its mel, its pitch, and the speaker encoder."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch

from helpers import ROOT
from talkingface.networks.speaker_encoder import SpeakerEncoder
from talkingface.sound import pitch, speaker, voice_mel
from talkingface.sound.mel import mel_basis
from talkingface.weights.published import locate

from . import fill

EXACT = 1e-6


@pytest.fixture(scope="module")
def features(vector):
    """The vector, and its signal in float64."""
    v = vector("makeittalk", "audio_features")
    return v, fill.signal(v["inputs"][0]["shape"][0] / 16000).astype(np.float64)


def log_pitch(v, gender):
    """The stored pitch, NaN where it is unvoiced."""
    values = v.outputs[f"log_f0_voiced_{gender}"]["values"]
    return np.array([np.nan if value is None else value for value in values])


def test_the_mel_and_what_it_is_taken_from(features):
    v, signal = features
    filtered = voice_mel.high_passed(signal)
    v.check("filtered_wav_F", filtered, EXACT)
    v.check("mel_F", voice_mel.scaled_mel(filtered), EXACT)
    v.check("mel_filterbank", mel_basis(voice_mel.MEL), EXACT)


def test_loudness_is_measured_and_changed_as_in_the_published_chain(features):
    v, signal = features
    pcm = voice_mel.as_pcm(signal)
    assert voice_mel.level_db(pcm) == pytest.approx(v.outputs["dbfs_of_int16"], abs=1e-9)
    levelled = voice_mel.levelled(pcm)
    v.check("pcm_after_minus20dbfs", levelled, 0)
    assert voice_mel.level_db(levelled) == pytest.approx(v.outputs["dbfs_after"], abs=1e-9)


@pytest.mark.parametrize("gender", ["F", "M"])
def test_pitch_becomes_the_published_bins(features, gender):
    v, _ = features
    bins = pitch.pitch_bins(pitch.relative_pitch(log_pitch(v, gender)))
    assert bins.tolist() == v.outputs[f"f0_bin_{gender}"]
    assert (pitch.pitch_rows(bins).argmax(axis=1) == bins).all()


@pytest.mark.parametrize("gender", ["F", "M"])
def test_rapt_gives_the_published_pitch(features, gender):
    pytest.importorskip("pysptk", reason="pysptk is not installed; it has no wheel for Python 3.11")
    v, signal = features
    found = pitch.track_pitch(voice_mel.high_passed(signal), gender, "rapt")
    stored = log_pitch(v, gender)
    assert (np.isfinite(found) == np.isfinite(stored)).all()
    np.testing.assert_allclose(found, stored, atol=1e-5)


@pytest.mark.parametrize("gender", ["F", "M"])
def test_our_tracker_is_close_to_the_published_one(features, gender):
    v, signal = features
    found = pitch.track_pitch(voice_mel.high_passed(signal), gender, "correlation")
    stored = log_pitch(v, gender)
    both = np.isfinite(found) & np.isfinite(stored)
    assert both.sum() >= 0.9 * np.isfinite(stored).sum()
    apart = np.abs(found - stored)[both]
    assert np.quantile(apart, 0.95) < 0.03 and apart.max() < 0.1  # an octave is 0.69


@pytest.fixture(scope="module")
def speakers(vector):
    """The vector, and its signal."""
    v = vector("makeittalk", "speaker_embedding")
    return v, v.signal()


def test_speaker_encoder_gives_the_published_vectors(speakers):
    v, _ = speakers
    mels = torch.from_numpy(v.input("mel40"))
    v.check("network_filled_weights", v.load(SpeakerEncoder())(mels))


def test_the_speaker_encoder_hears_the_published_mel_in_the_published_windows(speakers):
    v, signal = speakers
    v.check("mel40_of_raw", speaker.encoder_mel(signal), 1e-5)
    for name, samples in (("raw", len(signal)), ("preprocessed", v.outputs["preprocessed_length"])):
        ends = [[160 * start, 160 * (start + 160)] for start in speaker.partial_starts(samples)]
        assert ends == v.outputs[f"partial_slices_of_{name}"]


def test_silence_is_cut_as_published(speakers):
    if not importlib.util.find_spec("webrtcvad"):
        pytest.skip("webrtcvad-wheels is not installed")
    v, signal = speakers
    voice = speaker.prepared_voice(signal, "webrtc")
    assert len(voice) == v.outputs["preprocessed_length"]
    v.check("preprocessed", voice)


def test_published_weights_give_the_published_vectors(speakers):
    path = locate(ROOT / "checkpoints", "resemblyzer")
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    v, signal = speakers
    network = SpeakerEncoder().load(path)
    v.check("embedding_pretrained_of_raw_signal", network.embed_prepared(signal), 1e-3)
    if importlib.util.find_spec("webrtcvad"):
        v.check("embedding_pretrained_of_preprocessed", network.embed(signal, "webrtc"), 1e-3)
