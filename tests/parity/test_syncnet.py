from __future__ import annotations

import numpy as np
import pytest
import torch

from talkingface.errors import CheckpointError
from talkingface.networks.syncnet_v2 import SyncNetV2


@pytest.fixture
def filled(vector):
    v = vector("metrics", "syncnet_v2")
    network = v.load(SyncNetV2(v["constructor"]["num_layers_in_fc_layers"])).eval()
    audio = torch.from_numpy(10 * v.input("aud"))
    faces = torch.from_numpy(np.floor(256 * v.input("lip")))
    return v, network, audio, faces


@torch.no_grad()
def test_syncnet_gives_the_published_embeddings(filled):
    v, network, audio, faces = filled
    v.check("forward_aud", network.forward_audio(audio))
    v.check("netcnnaud", network.netcnnaud(audio))
    v.check("forward_lip", network.forward_lip(faces))
    v.check("forward_lipfeat", network.forward_lip_features(faces))


@torch.no_grad()
def test_folded_towers_give_the_same_embeddings(filled):
    v, network, audio, faces = filled
    folded = network.fold()
    v.check("forward_lip", folded.forward_lip(faces))
    got, want = folded(audio, faces), network(audio, faces)
    for a, b in zip(got, want):
        assert float((a - b).abs().max() / b.abs().max()) < 1e-5  # usually 2e-6


def test_published_file_without_batch_counters_loads_and_others_do_not(filled, tmp_path):
    _, network, _, _ = filled
    old = {key: value for key, value in network.state_dict().items() if not key.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "syncnet_v2.model")
    fresh = SyncNetV2().load(tmp_path / "syncnet_v2.model")
    assert torch.equal(fresh.netfclip[3].weight, network.netfclip[3].weight)

    torch.save({"netfclip.0.bias": old["netfclip.0.bias"]}, tmp_path / "other.model")
    for name in ("other.model", "absent.model"):
        with pytest.raises(CheckpointError, match=name):
            SyncNetV2().load(tmp_path / name)
