"""DeepSpeech 2 from a file like the published one: tensors beside objects of its training."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import torch

from talkingface.errors import CheckpointError
from talkingface.networks.deepspeech2 import DeepSpeech2
from talkingface.sound.front_ends import front_end_kind


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A small network in a file with Lightning's entries and a class that nobody has."""
    module = types.ModuleType("deepspeech_pytorch_configs")

    class SpectConfig:
        """Settings of a training."""

        def __init__(self):
            self.window_size = 0.02

    SpectConfig.__module__, SpectConfig.__qualname__ = module.__name__, "SpectConfig"
    module.SpectConfig = SpectConfig
    monkeypatch.setitem(sys.modules, module.__name__, module)
    torch.manual_seed(0)
    network = DeepSpeech2(hidden=8, layers=3).eval()
    path = tmp_path / "DeepSpeech/LibriSpeech_Pretrained_v3.ckpt"
    path.parent.mkdir()
    torch.save({"state_dict": network.state_dict(), "hyper_parameters": {"spect_cfg": SpectConfig()}}, path)
    monkeypatch.delitem(sys.modules, module.__name__)
    return network, path


def sound() -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, 6400).astype(np.float32)


def test_the_front_end_reads_the_tensors_of_the_published_file(published, tmp_path):
    network, _ = published
    front_end = front_end_kind("deepspeech2")(tmp_path)
    rows = front_end.extract(sound())
    assert rows.shape == (21, 29) and rows.dtype == np.float32
    np.testing.assert_allclose(rows, network.extract(sound()), atol=1e-6)
    assert front_end.fingerprint()["files"].keys() == {"DeepSpeech/LibriSpeech_Pretrained_v3.ckpt"}
    assert front_end.times(21)[-1] == pytest.approx(0.4)


def test_other_files_are_refused_in_words(published, tmp_path):
    network, path = published
    state = network.state_dict()
    for content, message in [
        ({"G": state}, "DeepSpeech 2"),
        ({"state_dict": {"weight": torch.ones(1)}}, "not a DeepSpeech 2 of deepspeech.pytorch V3"),
        ({"state_dict": {**state, "fc.0.module.1.weight": torch.ones(33, 8)}}, "of 33 letters; the features are 29"),
        ({"state_dict": {k: v for k, v in state.items() if "batch_norm" not in k}}, "batch_norm"),
    ]:
        torch.save(content, path)
        with pytest.raises(CheckpointError, match=message):
            DeepSpeech2.from_file(path)
