"""The speaker encoder: unit vectors, long sound, and its published file."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from talkingface.errors import CheckpointError, DataError
from talkingface.networks.speaker_encoder import Resemblyzer, SpeakerEncoder


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return SpeakerEncoder(hidden=16, depth=1, size=12).eval()


def noise(seconds, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, int(16000 * seconds)).astype(np.float32)


def test_a_voice_of_any_length_has_a_unit_vector(small):
    for seconds in (0.1, 1.6, 5.0):
        vector = small.embed(noise(seconds), "energy")
        assert vector.shape == (12,) and np.linalg.norm(vector) == pytest.approx(1, rel=1e-5) and (vector >= 0).all()
    assert np.isfinite(small.embed(np.zeros(8000), "energy")).all()


def test_long_sound_is_the_plain_mean_of_its_minutes(small):
    sound = np.concatenate([noise(60), 0.5 * noise(60, 1), noise(20, 2)])
    minutes = [small.embed_prepared(sound[:960000]), small.embed_prepared(sound[960000 : 2 * 960000])]
    np.testing.assert_allclose(small.embed(sound, "energy"), np.mean(minutes, axis=0), atol=1e-6)


def test_the_published_layout_is_read_and_what_belongs_to_training_left_out(small, tmp_path):
    path = tmp_path / "pretrained.pt"
    state = {**small.state_dict(), "similarity_weight": torch.ones(1), "similarity_bias": torch.ones(1)}
    torch.save({"model_state": state, "step": 3}, path)
    other = SpeakerEncoder(hidden=16, depth=1, size=12).load(path)
    assert all(torch.equal(value, small.state_dict()[key]) for key, value in other.state_dict().items())
    torch.save({"state_dict": state}, path)
    with pytest.raises(CheckpointError, match=r"pretrained\.pt: no speaker encoder inside"):
        SpeakerEncoder().load(path)


def test_as_a_part_of_front_ends_it_reads_its_file_once_and_tells_its_hash(tmp_path):
    part = Resemblyzer(tmp_path, detector="energy")
    with pytest.raises(DataError, match=r"Resemblyzer.pretrained\.pt: the front end resemblyzer needs this file"):
        part.fingerprint()
    path = tmp_path / "Resemblyzer" / "pretrained.pt"
    path.parent.mkdir()
    torch.manual_seed(0)
    encoder = SpeakerEncoder()
    torch.save({"model_state": encoder.state_dict()}, path)
    stored = part.fingerprint()
    assert len(stored["files"]["Resemblyzer/pretrained.pt"]) == 64 and stored["silence"] == "energy"
    np.testing.assert_allclose(part.vector(noise(2)), encoder.embed(noise(2), "energy"), atol=1e-6)
    path.unlink()
    assert part.vector(noise(1)).shape == (256,)
