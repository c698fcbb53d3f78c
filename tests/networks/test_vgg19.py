from __future__ import annotations

import pytest
import torch

from talkingface.errors import CheckpointError
from talkingface.networks.vgg19 import VGG19Features

FIRST = (1, 6)  # two layers are enough here and keep the files small


def torchvision_file(path):
    network = VGG19Features(FIRST)
    torch.nn.init.constant_(network.features[0].weight, 0.25)
    torch.save({**network.state_dict(), "classifier.0.bias": torch.zeros(1), "features.30.bias": torch.ones(2)}, path)
    return network


def test_torchvision_file_loads_and_later_entries_are_left_out(tmp_path):
    saved = torchvision_file(tmp_path / "vgg.pth")
    loaded = VGG19Features(FIRST).load(tmp_path / "vgg.pth")
    for key, value in saved.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)


def test_shapes_of_the_activations_and_no_training():
    network = VGG19Features()
    shapes = [tuple(part.shape[1:]) for part in network(torch.rand(1, 3, 32, 32))]
    assert shapes == [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 2, 2)]
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize("kind", ["absent", "text", "other", "code"])
def test_other_files_are_refused_by_name(tmp_path, kind):
    path = tmp_path / f"{kind}.pth"
    if kind == "text":
        path.write_text("not weights")
    if kind == "other":
        torch.save({"features.0.weight": torch.zeros(3)}, path)
    if kind == "code":
        torch.save({"x": VGG19Features(FIRST)}, path)
    with pytest.raises(CheckpointError, match=kind):
        VGG19Features(FIRST).load(path)
