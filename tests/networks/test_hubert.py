"""HuBERT's letters, and their mapping to those of DeepSpeech: the networks of published code, file by file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from helpers.hubert_by_torchaudio import SIZES, heard
from talkingface.errors import CheckpointError
from talkingface.networks import hubert_ds
from talkingface.networks.hubert import Hubert, HubertSizes, hubert_state
from talkingface.networks.hubert_ds import HubertFrontEnd, LetterMapping, letters


@pytest.fixture(scope="module")
def stored():
    """State and logits of a small network of torchaudio's, see `helpers.hubert_by_torchaudio`."""
    with np.load(Path(__file__).with_name("hubert_by_torchaudio.npz")) as file:
        state = {name.removeprefix("state/"): torch.from_numpy(file[name]) for name in file if name != "logits"}
        return state, file["logits"]


@pytest.fixture
def front_end(stored, tmp_path, monkeypatch):
    """The front end on small weights, its files where it looks for them."""
    monkeypatch.setattr(hubert_ds, "Hubert", _Small)
    torch.manual_seed(1)
    for file, content in zip(HubertFrontEnd.files, (stored[0], LetterMapping().state_dict()), strict=True):
        (tmp_path / file).parent.mkdir()
        torch.save(content, tmp_path / file)
    return HubertFrontEnd(tmp_path)


class _Small(Hubert):
    """`Hubert` of the stored sizes, whoever reads its file."""

    def __init__(self, sizes=None):
        super().__init__(HubertSizes(**SIZES))


def test_the_network_is_torchaudios(stored, tmp_path):
    state, logits = stored
    torch.save(state, tmp_path / "hubert.pth")
    network = Hubert.from_file(tmp_path / "hubert.pth", HubertSizes(**SIZES))
    sound = torch.from_numpy(heard())
    with torch.inference_mode():
        found = network(F.layer_norm(sound, sound.shape)[None])[0]
    np.testing.assert_allclose(found.numpy(), logits, atol=2e-5)


def test_older_files_name_the_kernel_of_positions_otherwise(stored):
    place = "encoder.transformer.pos_conv_embed.conv."
    renamed = {f"{place}parametrizations.weight.original{k}": f"{place}weight_{end}" for k, end in enumerate("gv")}
    older = {renamed.get(name, name): values for name, values in stored[0].items()}
    for name, values in hubert_state(stored[0], "x").items():
        torch.testing.assert_close(hubert_state(older, "x")[name], values)
    with pytest.raises(CheckpointError, match="x: not a HuBERT of torchaudio"):
        hubert_state({"aux.weight": torch.zeros(29, 16)}, "x")


def test_rows_come_50_per_second_and_each_stretch_is_heard_by_itself(front_end, monkeypatch):
    monkeypatch.setattr(hubert_ds, "_STRETCH", 1600)
    network = front_end.networks[0]
    sound = heard()
    whole = letters(network, sound)
    assert whole.shape == (12, 29), "the rest of a row gives none"
    torch.testing.assert_close(whole[5:10], letters(network, sound[1600:3200]))
    louder = np.concatenate([sound[:1600], 3 * sound[1600:]])
    torch.testing.assert_close(letters(network, louder), whole, atol=1e-3, rtol=1e-3)
    assert letters(network, sound[:100]).shape == (0, 29)


def test_models_that_dub_know_all_recognisers():
    from talkingface.lipsync.dubbing import networks
    from talkingface.sound.front_ends import front_end_kind

    assert front_end_kind("deepspeech_onnx") is networks.front_ends.DeepSpeechOnnxFrontEnd
    assert front_end_kind("deepspeech_tf") is networks.front_ends.DeepSpeechTensorFlowFrontEnd
    assert front_end_kind("deepspeech2") is networks.deepspeech2.DeepSpeech2FrontEnd
    assert front_end_kind("hubert_ds") is networks.hubert_ds.HubertFrontEnd


def test_the_front_end_maps_letters_in_their_own_order(front_end):
    rows = front_end.extract(heard())
    network, mapping = front_end.networks
    with torch.inference_mode():
        logits = letters(network, heard())
        inner = F.relu(mapping.fc3(F.relu(mapping.fc2(F.relu(mapping.fc1(logits))))))
        np.testing.assert_allclose(rows, mapping.fc4(inner).numpy(), atol=1e-6)
    assert rows.shape == (12, 29) and rows.dtype == np.float32
    assert np.isfinite(front_end.extract(np.zeros(8000, np.float32))).all()
    assert set(front_end.fingerprint()["files"]) == set(HubertFrontEnd.files)
