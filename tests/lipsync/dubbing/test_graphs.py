"""The networks of DINet and LawDNet as graphs: what stands in for a method, and that files compute the same."""

from __future__ import annotations

import json
from copy import deepcopy

import numpy as np
import pytest
import torch

from helpers.drawn_clips import DrawnSource, Speech
from talkingface.export.onnx_files import Traced, export_model
from talkingface.models.dinet.networks.adaat import AdaAT
from talkingface.models.lawdnet.networks.quirks import Quirks
from talkingface.models.lawdnet.networks.warp import LocalAffineWarp
from talkingface.plugin import Graph, Port
from talkingface.plugin.configuration import load_config
from talkingface.plugin.registry import get_spec


def built(name, mouth=32, **overrides):
    changes = {f"model.{key}": value for key, value in overrides.items()}
    config = load_config(name, "folder", (), {"profile": "tiny", "model.crop.width": mouth * 5 // 4, **changes}).config
    torch.manual_seed(0)
    model = get_spec(name).model(config.model).eval()
    model.bind("checkpoints", "cpu")
    for parameter in model.parameters():
        if not parameter.any():  # what begins at zero would hide all that lies before it
            torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.mark.parametrize("name", ["DINet", "LawDNet"])
@torch.inference_mode()
def test_graphs_in_place_of_the_methods_draw_the_same_frames(name):
    model = built(name, **{"inference.precision": "32"})
    source, speech = DrawnSource(6), Speech(0.2)
    wanted = list(model.generate(source, speech))
    ran, twin = [], deepcopy(model)
    *graphs, expert = twin.graphs()
    for graph in graphs:
        traced = Traced(twin, graph).eval()

        def run(*inputs, graph=graph, traced=traced):
            ran.append(graph.name)
            shaped(graph, inputs)
            return traced(*inputs)

        setattr(model.generator, graph.method, graph.stand_in(run))
    assert all((a == b).all() for a, b in zip(wanted, model.generate(source, speech), strict=True))
    assert ran[0] == "generator.encode" and set(ran[1:]) == {"generator"} and expert.network == "sync_expert"


def shaped(graph, inputs) -> None:
    """See that inputs have the declared shapes."""
    for port, given in zip(graph.inputs, inputs, strict=True):
        sizes = [size for size in zip(port.shape, given.shape, strict=True) if isinstance(size[0], int)]
        assert all(told == size for told, size in sizes), port.name


def test_the_expert_is_declared_as_it_is_called():
    model = built("LawDNet")
    *_, graph = model.graphs()
    mouths, rows = (torch.rand(2, *port.shape[1:]) for port in graph.inputs)
    assert model.sync_expert(mouths, rows).shape[1:] == graph.outputs[0].shape[1:]
    alone = get_spec("SyncNetDINet").model(load_config("SyncNetDINet", "folder", (), {"profile": "tiny"}).config.model)
    assert alone.graphs()[0].inputs == graph.inputs


class Moving(torch.nn.Module):
    """A model of one network that moves maps; its code is large enough to move them far."""

    def __init__(self, network, channels, size):
        super().__init__()
        self.network, self.size = network, (channels, *size)

    def graphs(self):
        inputs = (Port("maps", ("batch", *self.size), "maps", 0.0, 1.0), Port("code", ("batch", 8), "code", -9.0, 9.0))
        return (Graph("network", inputs, (Port("moved", ("batch", *self.size), "moved maps"),)),)


@pytest.mark.slow
@pytest.mark.parametrize("compat", ["published", "corrected"])
@pytest.mark.parametrize("size", [(26, 20), (13, 10)])
def test_warps_leave_as_onnx_also_where_their_field_shrinks(tmp_path, compat, size):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    for network in (LocalAffineWarp(8, 4, Quirks.of(compat), grid=20), AdaAT(8, 4, compat == "published")):
        export_model(Moving(network, 4, size), "Moving", ["network"], tmp_path, lambda _: None)
        [file] = json.loads((tmp_path / "graphs.json").read_text())["files"]
        assert file["difference"] <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "mouth", "settings"),
    [
        ("LawDNet", 32, {"compat": "published", "generator.condition": "attention"}),
        ("LawDNet", 64, {"generator.recompute": True, "generator.condition": "attention"}),
        ("DINet", 32, {"compat": "published"}),
    ],
)
def test_published_and_corrected_forms_leave_as_onnx(tmp_path, name, mouth, settings):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")

    model = built(name, mouth, **settings)
    export_model(model, name, ["generator"], tmp_path, lambda _: None)
    files = json.loads((tmp_path / "graphs.json").read_text())["files"]
    assert [file["file"] for file in files] == ["generator.encode.onnx", "generator.onnx"]
    assert np.max([file["difference"] for file in files]) <= 1e-4
