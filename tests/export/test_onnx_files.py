"""Exported networks: written, compared with PyTorch, described; what differs is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from helpers.checkpoints import random_checkpoint
from talkingface.cli.commands import main
from talkingface.errors import CheckpointError
from talkingface.networks.blocks import being_exported
from talkingface.plugin import Graph, Port
from talkingface.plugin.registry import list_models

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from talkingface.export.onnx_files import export_model  # noqa: E402

VECTOR = Port("x", ("batch", 3), "numbers", 0.0, 1.0)
SUM = Port("sum", ("batch", 2), "their sums")


class Summing(nn.Module):
    """A model of one network; exported it adds `error`."""

    def __init__(self, error: float = 0.0) -> None:
        super().__init__()
        self.error, self.network = error, nn.Linear(3, 2)

    def graphs(self):
        def call(x):
            return self.network(x) + (self.error if being_exported() else 0.0)

        return (Graph("network", (VECTOR,), (SUM,), call=call),)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Folder of the exported toy, and the checkpoint."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TALKINGFACE_PLUGINS", "toys.toy_gan")
        checkpoint = random_checkpoint("ToyGAN", tmp_path_factory.mktemp("run"))
        assert main(["export", "--model=ToyGAN", f"--checkpoint={checkpoint}", "--format=onnx"]) == 0
    return checkpoint.parent / "onnx", checkpoint


def test_a_file_computes_what_the_network_does_for_batches_of_any_size(exported):
    folder, checkpoint = exported
    session = onnxruntime.InferenceSession(str(folder / "generator.onnx"))
    state = torch.load(checkpoint, weights_only=True)["networks"]["generator"]
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2)).eval()
    network.load_state_dict(state)
    for batch in (1, 7):
        x = np.random.default_rng(batch).random((batch, 4), np.float32)
        [made] = session.run(None, {"x": x})
        np.testing.assert_allclose(made, network(torch.from_numpy(x)).detach().numpy(), atol=1e-5)


def test_what_goes_in_and_out_is_described_beside_the_files(exported):
    folder, _ = exported
    content = json.loads((folder / "graphs.json").read_text())
    generator, discriminator = content["files"]
    assert (content["model"], generator["file"]) == ("ToyGAN", "generator.onnx")
    assert generator["inputs"] == [
        {"name": "x", "dtype": "float32", "shape": ["batch", 4], "about": "points", "range": [-1.0, 1.0]}
    ]
    assert discriminator["outputs"][0]["about"] == "high for real" and discriminator["difference"] < 1e-4


def test_a_file_that_differs_from_pytorch_is_refused_and_not_kept(tmp_path):
    right, wrong = Summing(1e-5), Summing(2e-4)
    export_model(right, "Summing", ["network"], tmp_path / "right", lambda _: None)
    with pytest.raises(CheckpointError, match=r"network.onnx: differs from PyTorch by 2.0e-04, more than 0.0001"):
        export_model(wrong, "Summing", ["network"], tmp_path / "wrong", lambda _: None)
    assert [file.name for file in (tmp_path / "wrong").iterdir()] == []


def test_networks_that_nothing_has_trained_are_left_out_and_that_is_said(tmp_path):
    told: list[str] = []
    with pytest.raises(CheckpointError, match="none of its networks is trained"):
        export_model(Summing(), "Summing", [], tmp_path, told.append)
    assert told == ["left out network: the checkpoint holds no trained network"]


def test_errors_of_the_command_are_one_line(tmp_path, toys, capsys):
    checkpoint = random_checkpoint("ToyGAN", tmp_path)
    assert main(["export", "--model=ToyGAN", f"--checkpoint={checkpoint}", "--format=tflite"]) == 2
    assert "unknown --format 'tflite'" in capsys.readouterr().err
    assert main(["export", "--model=ToyGAN", "--checkpoint=hub:me/toy", "--format=onnx"]) == 2
    assert "name a folder or file of your own with --output" in capsys.readouterr().err


def test_without_the_packages_the_command_says_how_to_get_them(tmp_path, toys, monkeypatch, capsys):
    monkeypatch.setattr("talkingface.packages.installed", lambda name: None)
    assert main(["export", "--model=ToyGAN", f"--checkpoint={tmp_path}", "--format=onnx"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "export --format=onnx needs onnx, onnxruntime, onnxscript: pip install -c" in line


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models())
def test_every_model_leaves_as_onnx(name, tmp_path, capsys):
    checkpoint = random_checkpoint(name, tmp_path, profile="tiny")
    assert main(["export", f"--model={name}", f"--checkpoint={checkpoint}", "--format=onnx"]) == 0
    content = json.loads((checkpoint.parent / "onnx" / "graphs.json").read_text())
    assert content["files"] and all(entry["difference"] <= 1e-4 for entry in content["files"])
    assert any("batch" in port["shape"] for entry in content["files"] for port in entry["inputs"])
