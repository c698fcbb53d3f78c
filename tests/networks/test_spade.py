from __future__ import annotations

import pytest
import torch

import talkingface.networks.spade as spade
from talkingface.networks.spade import Spade, SpadeLayer, modulate


def by_two_convolutions(layer: SpadeLayer) -> SpadeLayer:
    layer.composes = False
    return layer


def layer(channels=4, inputs=3, hidden=16, **kwargs) -> SpadeLayer:
    torch.manual_seed(0)
    return SpadeLayer(channels, inputs, hidden).to(**kwargs)


def values_and_gradients(layer: SpadeLayer, condition: torch.Tensor) -> list[torch.Tensor]:
    condition = condition.clone().requires_grad_()
    made = layer.modulation(condition)
    (made.gamma.square().sum() + made.beta.sin().sum()).backward()
    return [made.gamma, made.beta, condition.grad, *(each.grad for each in layer.parameters())]


@pytest.mark.parametrize("size", [(8, 8), (16, 16), (5, 7), (3, 3), (2, 5), (2, 2), (1, 4), (6, 1), (1, 1)])
def test_one_convolution_gives_the_numbers_of_two_borders_included(size):
    condition = torch.randn(2, 3, *size, dtype=torch.float64)
    assert layer().composes
    ours = values_and_gradients(layer(dtype=torch.float64), condition)
    theirs = values_and_gradients(by_two_convolutions(layer(dtype=torch.float64)), condition)
    for one, two in zip(ours, theirs, strict=True):
        assert float(((one - two).abs().max() / two.abs().max()).detach()) < 2e-15


@torch.no_grad()
def test_the_border_differs_from_a_plain_composition():
    """What is taken off the outermost pixels is no rounding error: the test above would see it missing."""
    one, condition = layer(), torch.randn(1, 3, 8, 8)
    kernels = one._composed()
    plain = torch.nn.functional.conv2d(condition, kernels.whole, kernels.bias, padding=2)[:, :4]
    apart = (plain - one.modulation(condition).gamma).abs()[0].amax(0)
    assert float(apart[1:-1, 1:-1].max()) < 1e-6 < 1e-3 < float(apart[0].min())


def test_the_published_renderer_composes_all_but_the_widest_condition():
    widths = {
        "sketches": (256, 15),
        "fine sketches": (64, 15),
        "fine": (64, 32),
        "image": (64, 3),
        "coarse": (256, 256),
    }
    composed = {name: spade.composing_pays(*width, hidden=256) for name, width in widths.items()}
    assert composed == {name: name != "coarse" for name in widths}


def test_kernels_are_composed_once_per_weights_in_inference_and_once_per_step_in_training(monkeypatch):
    made = []
    original = spade.compose
    monkeypatch.setattr(spade, "compose", lambda *args: made.append(1) or original(*args))
    network, condition = layer(), torch.randn(1, 3, 8, 8)
    with torch.inference_mode():
        first = network.modulation(condition)
        network.modulation(condition)
    assert len(made) == 1
    network.modulation(condition)
    network.modulation(condition)
    assert len(made) == 3
    torch.manual_seed(1)
    network.load_state_dict(SpadeLayer(4, 3, 16).state_dict())
    with torch.no_grad():
        second = network.modulation(condition)
        network.modulation(condition)
    assert len(made) == 4
    assert not torch.allclose(first.gamma, second.gamma)


@torch.no_grad()
def test_remembered_kernels_follow_every_change_of_the_weights():
    network, condition = layer(), torch.randn(1, 3, 8, 8)
    network.modulation(condition)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    changes = [
        optimizer.step,
        lambda: network.conv1.weight.mul_(2),
        lambda: network.beta.bias.copy_(torch.ones(4)),
        lambda: setattr(network.gamma.weight, "data", torch.randn(4, 16, 3, 3)),
        network.double,
        lambda: setattr(network, "gamma", SpadeLayer(4, 3, 16).double().gamma),
    ]
    for change in changes:
        change()
        condition = condition.to(network.conv1.weight)
        ours = network.modulation(condition)
        network.composes = False
        theirs = network.modulation(condition)
        network.composes = True
        torch.testing.assert_close(ours.gamma, theirs.gamma, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_neighbouring_items_share_a_modulation():
    normalised, condition = torch.randn(6, 4, 8, 8), torch.randn(2, 3, 8, 8)
    shared = layer().modulation(condition)
    repeated = spade.Modulation(*(each.repeat_interleave(3, 0) for each in shared))
    torch.testing.assert_close(modulate(normalised, shared), modulate(normalised, repeated))


def test_inference_computes_what_training_does():
    torch.manual_seed(0)
    block, x, condition = Spade(4, 3, 16), torch.randn(2, 4, 8, 8), torch.randn(2, 3, 8, 8)
    trained = block(x, condition).detach()
    with torch.inference_mode():
        plain = block(x, condition)
        last = block(x.contiguous(memory_format=torch.channels_last), condition)
    torch.testing.assert_close(plain, trained, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(last, trained, rtol=1e-5, atol=1e-6)
