"""Promises of DINet's networks beside the published numbers: AdaAT by hand, sizes, references kept."""

from __future__ import annotations

import pytest
import torch

from talkingface.models.dinet.networks.adaat import AdaAT, blended_channels
from talkingface.models.dinet.networks.generator import DINetGenerator
from talkingface.networks.dubbing.geometry import mouth_crop


def adaat(blended: bool, angle: float = 0.0, channels: int = 3) -> AdaAT:
    """AdaAT that turns all channels by `angle` times pi and does nothing else, whatever the code."""
    network = AdaAT(4, channels, blended)
    for head in (network.scale, network.rotation, network.translation):
        for parameter in head.parameters():
            parameter.data.zero_()
    network.rotation[0].bias.data.fill_(torch.atanh(torch.tensor(angle)))
    return network


@torch.no_grad()
def test_corrected_adaat_that_moves_nothing_returns_its_input():
    maps = torch.rand(2, 3, 13, 10)
    torch.testing.assert_close(adaat(False)(maps, torch.randn(2, 4)), maps, rtol=0, atol=1e-5)


@torch.no_grad()
def test_new_generators_begin_close_to_the_identity_and_published_ones_do_not():
    """Else what the references show has to be put together again before anything can be learnt from it."""
    torch.manual_seed(0)
    maps, code = torch.nn.functional.interpolate(torch.rand(2, 3, 4, 4), size=16, mode="bicubic"), torch.randn(2, 4)
    moved = [(AdaAT(4, 3, False, at_rest)(maps, code) - maps).abs().mean() for at_rest in (True, False)]
    assert moved[0] < 0.4 * moved[1]
    assert DINetGenerator(1 / 16).adaAT.rotation[0].bias.abs().max() == 0
    assert DINetGenerator(1 / 16, "published").adaAT.rotation[0].bias.abs().max() > 0


@torch.no_grad()
def test_corrected_adaat_turns_a_map_about_its_middle():
    maps = torch.rand(1, 3, 9, 9)
    turned = adaat(False, angle=0.5)(maps, torch.randn(1, 4))
    torch.testing.assert_close(turned, maps.rot90(1, (2, 3)), rtol=0, atol=1e-4)


def test_blended_channels_lie_between_two_and_are_halved_at_both_ends():
    """Four channels at -1/2, 5/6, 13/6 and 7/2."""
    maps = torch.tensor([1.0, 10.0, 100.0, 1000.0]).view(1, 4, 1, 1)
    wanted = [1 / 2, 1 / 6 + 50 / 6, 500 / 6 + 1000 / 6, 1000 / 2]
    assert blended_channels(maps).flatten().tolist() == pytest.approx(wanted)


@torch.no_grad()
def test_blended_adaat_reads_the_outermost_pixels_half_outside():
    """Its places run from -1 to 1: the first pixel of a row lies on the border, halfway to the zeros beyond."""
    maps = torch.ones(1, 3, 1, 6)
    drawn = adaat(True)(maps, torch.randn(1, 4))[0, 1, 0]
    # A map of one row: torch.linspace gives its only place as -1, the upper border.
    assert drawn.tolist() == pytest.approx([0.25, 0.5, 0.5, 0.5, 0.5, 0.25])


@torch.no_grad()
def test_adaat_stays_in_float32_under_autocast():
    network, maps, code = AdaAT(4, 3, False), torch.rand(2, 3, 13, 10), torch.randn(2, 4)
    plain = network(maps, code)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(network(maps, code), plain, rtol=0, atol=0)


def inputs(mouth: int = 32, batch: int = 2) -> tuple[torch.Tensor, ...]:
    random, crop = torch.Generator().manual_seed(1), mouth_crop(mouth)
    shapes = ((3, crop.height, crop.width), (15, crop.height, crop.width), (29, 5))
    return tuple(torch.rand(batch, *shape, generator=random) for shape in shapes)


@pytest.mark.parametrize("mouth", [32, 64, 96])
@torch.no_grad()
def test_crops_of_any_mouth_that_32_divides_keep_their_size(mouth):
    given = inputs(mouth)
    drawn = DINetGenerator(0.125)(*given)
    assert drawn.shape == given[0].shape and drawn.min() >= 0 and drawn.max() <= 1


def test_other_crops_are_refused_in_words():
    with pytest.raises(ValueError, match="got 60x78; the side of the mouth must be a multiple of 32"):
        DINetGenerator(0.125)(torch.rand(1, 3, 78, 60), torch.rand(1, 15, 78, 60), torch.rand(1, 29, 5))


@torch.no_grad()
def test_references_encoded_once_serve_all_frames():
    torch.manual_seed(0)
    network, (source, references, audio) = DINetGenerator(0.125).eval(), inputs(batch=3)
    whole = network(source, references[:1].expand(3, -1, -1, -1), audio)
    torch.testing.assert_close(network(source, network.encode(references[:1]), audio), whole, rtol=0, atol=1e-6)


def test_every_weight_gets_a_gradient():
    network = DINetGenerator(0.125)
    network(*inputs()).sum().backward()
    assert [name for name, each in network.named_parameters() if each.grad is None] == []


def test_adaat_is_blended_where_published_or_asked_for():
    kinds = [("published", None), ("corrected", None), ("published", False), ("corrected", True)]
    assert [DINetGenerator(0.125, c, blended=b).adaAT.blended for c, b in kinds] == [True, False, False, True]
    with pytest.raises(ValueError, match="published or corrected, got 'fixed'"):
        DINetGenerator(0.125, "fixed")


def test_published_width_has_the_published_number_of_parameters():
    with torch.device("meta"):
        network = DINetGenerator()
    assert sum(parameter.numel() for parameter in network.parameters()) == pytest.approx(19.19e6, abs=5e3)
