"""Building a model for stored weights: never larger than the file can justify."""

from __future__ import annotations

import resource
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch

from talkingface.errors import CheckpointError
from talkingface.plugin.assembly import build_for, load_experts
from talkingface.plugin.configuration import load_config
from talkingface.plugin.contract import Plan, TalkingFaceModel
from talkingface.plugin.registry import get_spec

FILE = Path("given.pt")


def settings(**overrides):
    return load_config("IPLAP", "demo", (), {f"model.{key}": value for key, value in overrides.items()}).config.model


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        ({"landmark.d_model": 4 * 10**6, "landmark.feedforward": 10**6}, "it is not built"),
        ({"renderer.width": 1e5}, "it is not built"),
        ({"renderer.width": 1e200}, "no model can be built with its settings"),
        ({"renderer.spade_hidden": 2**62}, "no model can be built with its settings"),
        ({"landmark.layers": 10**9}, "a model of too many layers"),
    ],
)
def test_settings_that_ask_for_more_than_the_file_holds_are_refused_without_the_memory(overrides, part):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match=rf"given\.pt: .*{part}") as caught:
        build_for(get_spec("IPLAP").model, settings(**overrides), {}, FILE)
    assert "\n" not in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB


def test_shapes_are_compared_before_the_model_is_built():
    model = get_spec("IPLAP").model
    state = model(settings()).renderer.state_dict()
    with pytest.raises(CheckpointError, match=r"given\.pt: renderer does not fit: \d+ wrong shape: .* more$"):
        build_for(model, settings(**{"renderer.width": 1.0}), {"renderer": state}, FILE)


def test_the_model_is_the_one_that_its_class_builds():
    model = get_spec("IPLAP").model
    torch.manual_seed(3)
    expected = model(settings()).state_dict()
    torch.manual_seed(3)
    built = build_for(model, settings(), {}, FILE).state_dict()
    assert all(torch.equal(value, built[key]) for key, value in expected.items())


def test_a_plug_in_that_computes_with_its_first_weights_is_built_all_the_same():
    class Computes(torch.nn.Module):
        def __init__(self, _):
            super().__init__()
            self.layer = torch.nn.Linear(2, 2)
            self.scale = self.layer.weight.sum().item()

    assert build_for(Computes, settings(), {}, FILE).layer.weight.device.type == "cpu"


@pytest.mark.parametrize("when", ["always", "with values"])
def test_what_a_constructor_complains_about_is_one_line_whatever_it_says(when):
    class Complains(torch.nn.Module):
        built = 0

        def __init__(self, _):
            super().__init__()
            Complains.built += 1
            if when == "always" or torch.nn.Linear(2, 2).weight.device.type == "cpu":
                raise ValueError("metadata: wrong\nand more")

    with pytest.raises(
        CheckpointError, match=r"given\.pt: no model can be built with its settings \(metadata: wrong\)"
    ):
        build_for(Complains, settings(), {}, FILE)
    assert Complains.built == (1 if when == "always" else 2)


@pytest.mark.parametrize(("kinds", "loaded"), [(["draw"], {"judge", "helper"}), (None, {"helper"})])
def test_only_training_loads_networks_that_judge(tmp_path, kinds, loaded):
    class Judged(TalkingFaceModel):
        plans: ClassVar[dict[str, Plan]] = {
            "draw": Plan(object, trains=("pen",), frozen=("judge",), uses=("helper",)),
        }

        def draw_step(self, batch, ctx):
            yield

        def load_expert(self, name, path):
            assert path == tmp_path / f"{name}.pth"

    for name in ("judge", "helper"):
        (tmp_path / f"{name}.pth").touch()
    model = Judged()
    experts = {name: f"{name}.pth" for name in ("judge", "helper")}
    load_experts(model, SimpleNamespace(experts=experts, weights_dir=str(tmp_path)), kinds)
    assert model.given == loaded
