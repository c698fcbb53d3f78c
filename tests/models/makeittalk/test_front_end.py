"""The converted mel: look-alike files of the published ones, lengths, silence, and what changes its fingerprint."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from talkingface.errors import CheckpointError, ConfigError, DataError
from talkingface.models.makeittalk import front_end as module
from talkingface.models.makeittalk.conversion import converted_mel
from talkingface.models.makeittalk.front_end import ConvertedMel
from talkingface.models.makeittalk.networks.autovc import AutoVC
from talkingface.networks.speaker_encoder import SpeakerEncoder
from talkingface.sound.front_ends import described, front_end_kind
from talkingface.sound.pitch import PITCH_BINS
from talkingface.sound.voice_mel import as_pcm, level_db, voice_mel


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Look-alike files: a small AutoVC with its optimiser as an object, an encoder, a voice."""
    weights = tmp_path_factory.mktemp("weights")
    for name in ("MakeItTalk", "Resemblyzer"):
        (weights / name).mkdir()
    torch.manual_seed(0)
    network, encoder = small(), SpeakerEncoder()
    optimizer = torch.optim.Adam(network.parameters())
    torch.save({"model": network.state_dict(), "optimizer": optimizer}, weights / "MakeItTalk" / "ckpt_autovc.pth")
    torch.save({"model_state": encoder.state_dict()}, weights / "Resemblyzer" / "pretrained.pt")
    np.savetxt(weights / "MakeItTalk" / "obama_emb.txt", np.random.default_rng(0).random(256))
    return weights


def small() -> AutoVC:
    return AutoVC(hidden=32, depth=1)


@pytest.fixture
def front_end(folder, monkeypatch):
    monkeypatch.setattr(module, "AutoVC", small)
    return ConvertedMel(folder, tracker="correlation", detector="energy")


@pytest.mark.parametrize("samples", [1, 4800, 16000, 20000])
def test_every_length_has_the_rows_of_the_plain_mel(front_end, samples):
    for sound in (np.zeros(samples), np.random.default_rng(0).normal(0, 0.1, samples)):
        rows = front_end.extract(sound)
        assert rows.shape == voice_mel(sound).shape and rows.dtype == np.float32 and np.isfinite(rows).all()


def test_it_is_the_mel_through_the_network_with_the_target_voice(front_end):
    sound = np.random.default_rng(0).normal(0, 0.1, 8000)  # noise, which has no pitch
    unvoiced = np.zeros((32, PITCH_BINS), np.float32)
    unvoiced[:, 0] = 1
    source = front_end.speaker.vector(np.floor(0.1 * sound / sound.std() * 32768) / 32768)
    wanted = converted_mel(front_end.network, voice_mel(sound), unvoiced, source, front_end.target)
    np.testing.assert_allclose(front_end.extract(sound), wanted, atol=1e-3)


def test_a_window_of_a_voice_is_as_loud_as_the_voice_was(front_end):
    whole = np.repeat([0.2, 0.002], 16000) * np.random.default_rng(0).standard_normal(32000)
    memory = {}
    for before in (0, 8000):
        rows = front_end.extract_window(whole[before : before + 24000], before, memory)
    loud = front_end._converted(whole[8000:], level_db(as_pcm(whole)))
    np.testing.assert_array_equal(rows, loud)
    assert np.abs(rows - front_end.extract(whole[8000:])).max() > 0.01


def test_it_is_known_by_its_name_and_its_files(front_end, folder):
    assert front_end_kind("autovc") is ConvertedMel
    stored = front_end.fingerprint()
    assert set(stored["files"]) == {"MakeItTalk/ckpt_autovc.pth", "MakeItTalk/obama_emb.txt"}
    text = described(stored)
    assert text.startswith("autovc (search F, tracker correlation, segmenting overlap, ckpt_autovc.pth ")
    assert "resemblyzer (silence energy, pretrained.pt " in text
    assert ConvertedMel(folder, search="M", tracker="correlation", detector="energy").fingerprint() != stored


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("search", "m", "autovc: unknown search 'm', did you mean 'M'"),
        ("tracker", "pyin", "autovc: unknown tracker 'pyin'"),
        ("segmenting", ["overlap"], "autovc: unknown segmenting "),
        ("detector", "foo", "resemblyzer: unknown detector 'foo'"),
    ],
)
def test_an_option_of_another_value_is_refused_before_anything_is_heard(tmp_path, option, value, told):
    with pytest.raises(ConfigError, match=told):
        ConvertedMel(tmp_path, **{option: value})


def test_a_file_that_is_absent_or_something_else_is_named(front_end, tmp_path):
    with pytest.raises(DataError, match=r"ckpt_autovc\.pth: the front end autovc needs this file"):
        ConvertedMel(tmp_path).fingerprint()
    (tmp_path / "MakeItTalk").mkdir()
    for content, message in (
        ({"model": {"encoder.lstm.weight": torch.zeros(1)}}, "encoder"),
        ({"G": {}}, "no AutoVC inside: expected an entry 'model'"),
        ([1], "no AutoVC inside"),
    ):
        torch.save(content, tmp_path / "MakeItTalk" / "ckpt_autovc.pth")
        with pytest.raises(CheckpointError, match=rf"ckpt_autovc\.pth.*{message}"):
            ConvertedMel(tmp_path).network  # noqa: B018 - read at its first use
