"""Networks that torch compiles: the same training, and no network of ours that could not be compiled as one piece."""

from __future__ import annotations

import logging

import pytest
import torch

from talkingface.devices import allow_tf32, compiled
from talkingface.models.iplap.networks.landmark_generator import LandmarkGenerator
from talkingface.models.iplap.networks.patch_discriminator import PatchDiscriminator
from talkingface.models.iplap.networks.renderer import Renderer
from talkingface.models.wav2lip.networks import QualityDiscriminator, Wav2LipGenerator
from talkingface.networks.sync_expert import SyncExpert
from talkingface.weights import checkpoint
from toys.build import toy_config, toy_trainer

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def asked(monkeypatch):
    """What torch was asked to compile with; it traces the network as a whole, which ends at a graph break."""
    modes, original = [], torch.compile

    def traced(network, **options):
        modes.append(options.pop("mode", None))
        return original(network, **{"backend": "eager", "fullgraph": True, **options})

    monkeypatch.setattr(torch, "compile", traced)
    yield modes
    torch._dynamo.reset()


@pytest.mark.usefixtures("toys")
def test_compiled_networks_train_to_the_same_weights_under_the_same_names(tmp_path, asked):
    for mode in ("none", "default"):
        toy_trainer(toy_config(tmp_path, compile=mode), tmp_path / mode).fit()
    plain, fast = (checkpoint.load(tmp_path / mode / "gan" / "last.pt").networks for mode in ("none", "default"))
    assert "default" in asked
    assert plain.keys() == fast.keys()
    for name, state in plain.items():
        assert state.keys() == fast[name].keys()
        assert all(torch.equal(value, fast[name][key]) for key, value in state.items())


def test_graphs_are_asked_for_where_there_are_some_and_said_to_be_missing_elsewhere(asked, caplog):
    network = torch.nn.Linear(2, 2)
    with caplog.at_level(logging.INFO, "talkingface"):
        assert compiled(network, "none", CPU) is network
        compiled(network, "reduce-overhead", CUDA)
        assert not caplog.text
        compiled(network, "reduce-overhead", CPU)
    assert asked == ["reduce-overhead", "default"]
    assert "cpu has no CUDA graphs" in caplog.text


def faces(*shape: int) -> torch.Tensor:
    return torch.rand(2, *shape)


NETWORKS = {
    "renderer": lambda: (
        Renderer(32, width=0.125, spade_hidden=64),
        (faces(3, 32, 32), faces(5, 1, 32, 32), faces(2, 3, 32, 32), faces(2, 1, 32, 32), faces(1, 80, 16)),
    ),
    "landmarks": lambda: (
        LandmarkGenerator(5, 16, 1, 2, 16, 0.0, 0.125),
        (faces(5, 1, 80, 16), faces(5, 2, 74), faces(2, 2, 74), faces(2, 2, 57)),
    ),
    "patches": lambda: (PatchDiscriminator(3, 4), (faces(3, 32, 32),)),
    "wav2lip": lambda: (Wav2LipGenerator(24, 0.125), (faces(5, 1, 80, 16), faces(6, 5, 24, 24))),
    "quality": lambda: (QualityDiscriminator(24, 0.125), (faces(3, 5, 24, 24),)),
    "expert": lambda: (SyncExpert((48, 96), 0.05), (faces(1, 80, 16), faces(15, 48, 96))),
}


def numbers(made) -> torch.Tensor:
    """All that a network puts out, in one row."""
    parts = made if isinstance(made, (tuple, list)) else [made]
    return torch.cat([numbers(part) if isinstance(part, (tuple, list)) else part.flatten() for part in parts])


@pytest.mark.parametrize(
    "name", ["renderer", *(pytest.param(n, marks=pytest.mark.slow) for n in NETWORKS if n != "renderer")]
)
def test_every_network_is_one_graph_with_the_same_numbers(name, asked):
    torch.manual_seed(0)
    network, inputs = NETWORKS[name]()
    network.train()
    first = {key: value.clone() for key, value in network.state_dict().items()}
    plain = numbers(network(*inputs))
    network.load_state_dict(first)
    fast = numbers(compiled(network, "default", CPU)(*inputs))
    torch.testing.assert_close(fast, plain, rtol=1e-5, atol=1e-6)
    fast.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_tf32_is_a_switch_and_else_left_to_torch(monkeypatch):
    convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = convolutions.allow_tf32, products.allow_tf32
    try:
        allow_tf32(None)
        assert (convolutions.allow_tf32, products.allow_tf32) == before
        for allowed in (True, False):
            allow_tf32(allowed)
            assert convolutions.allow_tf32 == products.allow_tf32 == allowed
    finally:
        convolutions.allow_tf32, products.allow_tf32 = before
