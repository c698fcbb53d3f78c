"""Promises of LawDNet's generator beside the published numbers: sizes, switches, references kept, dead layers."""

from __future__ import annotations

import pytest
import torch

from helpers.published_dubbing import published_generator
from helpers.published_warp import published_form
from talkingface.models.lawdnet.networks.generator import LawDNetGenerator
from talkingface.networks.dubbing.geometry import mouth_crop

WIDTH = 0.125


def generator(*args, **kwargs) -> LawDNetGenerator:
    torch.manual_seed(0)
    return LawDNetGenerator(WIDTH, *args, **kwargs)


def inputs(mouth: int = 32, batch: int = 2) -> tuple[torch.Tensor, ...]:
    random, crop = torch.Generator().manual_seed(1), mouth_crop(mouth)
    shapes = ((3, crop.height, crop.width), (15, crop.height, crop.width), (29, 5))
    return tuple(torch.rand(batch, *shape, generator=random) for shape in shapes)


@pytest.mark.parametrize("mouth", [32, 64, 96])
@pytest.mark.parametrize("condition", ["attention", "pooled"])
@torch.no_grad()
def test_crops_of_any_mouth_that_32_divides_keep_their_size(mouth, condition):
    given = inputs(mouth)
    drawn = generator(condition=condition)(*given)
    assert drawn.shape == given[0].shape and drawn.min() >= 0 and drawn.max() <= 1


def test_other_crops_are_refused_in_words():
    with pytest.raises(ValueError, match="got 60x78; the side of the mouth must be a multiple of 32"):
        generator()(torch.rand(1, 3, 78, 60), torch.rand(1, 15, 78, 60), torch.rand(1, 29, 5))


@torch.no_grad()
def test_new_generators_begin_close_to_the_identity_and_published_ones_do_not():
    turns = [generator(compat).lawLayer_list[1].heads(torch.randn(4, 32))[2] for compat in ("corrected", "published")]
    assert turns[0].abs().mean() < 0.25 * turns[1].abs().mean()


@pytest.mark.parametrize("compat", ["published", "corrected"])
@torch.no_grad()
def test_references_encoded_once_serve_all_frames(compat):
    network, (source, references, audio) = generator(compat).eval(), inputs(batch=3)
    whole = network(source, references[:1].expand(3, -1, -1, -1), audio)
    torch.testing.assert_close(network(source, network.encode(references[:1]), audio), whole, rtol=0, atol=1e-6)


@torch.no_grad()
def test_the_published_order_of_work_draws_the_same():
    network, given = generator("published", grid=8).eval(), inputs()
    drawn = published_generator(network, *given, published_form)
    torch.testing.assert_close(network(*given), drawn, rtol=0, atol=1e-4)


@torch.no_grad()
def test_dead_layers_are_neither_evaluated_nor_trained_and_corrected_ones_count():
    given = inputs()
    for compat, counts in (("published", False), ("corrected", True)):
        network = generator(compat).eval()
        calls = []
        network.lawLayer_list[0].register_forward_hook(lambda *_, calls=calls: calls.append(1))
        before = network(*given)
        network.appearance_conv_list[0][0].conv1.bias += 1
        assert (calls != []) == counts
        assert (not torch.equal(network(*given), before)) == counts
        assert all(parameter.requires_grad == counts for parameter in network.lawLayer_list[0].parameters())


def test_every_trained_weight_gets_a_gradient():
    """No process of several has to look for weights without one; the trainer switches all on."""
    for compat in ("published", "corrected"):
        network = generator(compat).requires_grad_(False).requires_grad_(True)
        network(*inputs()).sum().backward()
        waiting = [name for name, each in network.named_parameters() if each.requires_grad and each.grad is None]
        assert waiting == []


def test_corrected_networks_own_no_norms_that_nothing_applies():
    idle = {"norm1.running_mean", "norm2.running_mean"}
    assert idle <= {key.split(".", 2)[-1] for key in generator("published").audio_encoder.state_dict(prefix="a.")}
    assert not any(".norm" in key for key in generator("corrected", norm="none").state_dict())


@torch.no_grad()
def test_a_corrected_network_hears_at_once_what_a_published_one_does_not():
    (source, references, audio) = inputs(64)
    heard = {}
    for name, network in {
        "published": generator("published"),
        "attention": generator(),
        "pooled": generator(condition="pooled"),
    }.items():
        change = network(source, references, audio) - network(source, references, audio.flip(0))
        heard[name] = change.abs().mean().item()
    assert 1000 * heard["published"] < heard["attention"] < 0.1 * heard["pooled"]


def test_published_width_has_the_published_number_of_parameters():
    with torch.device("meta"):
        network = LawDNetGenerator(compat="published")
    assert sum(parameter.numel() for parameter in network.parameters()) == pytest.approx(21.08e6, abs=5e3)


def test_unknown_settings_are_refused():
    with pytest.raises(ValueError, match="attention or pooled, got 'mean'"):
        generator(condition="mean")
    with pytest.raises(ValueError, match="none, batch or group, got 'layer'"):
        generator(norm="layer")
