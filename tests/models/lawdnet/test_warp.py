"""The local affine warp: a plain loop as its twin, and what `corrected` promises, computed by hand."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial

import pytest
import torch

from helpers.published_warp import published_form
from talkingface.models.lawdnet.networks import displacement
from talkingface.models.lawdnet.networks.quirks import Quirks
from talkingface.models.lawdnet.networks.warp import LocalAffineWarp, _planes
from talkingface.networks.dubbing.sampling import centres

CORRECTED, PUBLISHED = Quirks.of("corrected"), Quirks.of("published")


def small(quirks: Quirks = CORRECTED, channels: int = 3, **kwargs) -> LocalAffineWarp:
    torch.manual_seed(0)
    return LocalAffineWarp(8, channels, quirks, **kwargs)


def still(warp: LocalAffineWarp) -> LocalAffineWarp:
    """The warp with similarities that change nothing, whatever the code."""
    for parameter in warp.similarity_params_layer.parameters():
        parameter.data.zero_()
    return warp


def by_loop(warp: LocalAffineWarp, size: int, code: torch.Tensor) -> torch.Tensor:
    """Displacements (B, C, size, size, 2), point by point and key point by key point, as the paper writes them."""
    keypoints, radii, similarities = warp.heads(code)
    places = centres(size, code)
    rows = []
    for b in range(len(code)):
        for c in range(warp.channels):
            for y in places:
                for x in places:
                    g = torch.stack([x, y])
                    d = g - keypoints[b, :, c]
                    e = torch.exp(-d.norm(dim=1) / radii[b, :, c])
                    ds, turn, tx, ty = similarities[b, :, c].T * e
                    cos, sin = torch.cos(math.pi * turn), torch.sin(math.pi * turn)
                    matrices = torch.stack([torch.stack([cos, sin], -1), torch.stack([-sin, cos], -1)], -2)
                    turned = (matrices @ d[..., None])[..., 0]
                    each = (1 + ds)[:, None] * turned + torch.stack([tx, ty], -1) + keypoints[b, :, c]
                    rows.append((e.softmax(0)[:, None] * each).sum(0) - g)
    return torch.stack(rows).view(len(code), warp.channels, size, size, 2)


@pytest.mark.parametrize("at_once", [2**16, 72])
def test_field_and_gradients_equal_a_loop_over_points_and_key_points(monkeypatch, at_once):
    """All channels at once, and one channel at a time."""
    monkeypatch.setattr(displacement, "_CACHED", at_once)
    warp, code = small().double(), torch.randn(2, 8, dtype=torch.float64)
    own = torch.stack(torch.meshgrid(*[centres(6, code)] * 2, indexing="xy"), dim=-1)
    ours, theirs = warp.field(6, 6, *warp.heads(code)) - own, by_loop(warp, 6, code)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    weights = torch.randn_like(ours)
    gradients = [
        torch.autograd.grad((field * weights).sum(), list(warp.parameters()), retain_graph=True)
        for field in (ours, theirs)
    ]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("size", [(13, 10), (26, 20), (104, 80), (117, 90)])
def test_a_corrected_warp_that_moves_nothing_returns_its_input_borders_included(size):
    maps, code = torch.rand(2, 3, *size) * 2 - 1, torch.randn(2, 8)
    torch.testing.assert_close(still(small())(maps, code), maps, rtol=0, atol=1e-4)


def test_the_published_field_is_not_the_identity_when_nothing_moves():
    ramp = torch.linspace(-1, 1, 80).expand(1, 3, 104, 80).contiguous()
    assert (still(small(PUBLISHED))(ramp, torch.randn(1, 8)) - ramp).abs().max() > 0.9


def test_a_clamped_field_misses_the_outermost_pixels_of_a_larger_map():
    """The grid of 60 ends 1/60 inside the border and the map of 80 columns 1/80: (1/60 - 1/80) * 80 / 2 pixels."""
    warp = still(small(Quirks.of("corrected", clamped_field=True)))
    x = warp.field(104, 80, *warp.heads(torch.randn(1, 8)))[0, 0, 50, :, 0]
    missed = (x - centres(80, x)) * 80 / 2
    assert missed[0].item() == pytest.approx((1 / 60 - 1 / 80) * 40, abs=1e-4)
    assert missed[5:-5].abs().max() < 1e-4


def test_scrambled_planes_are_written_column_by_column_and_read_row_by_row():
    x, y = torch.tensor([[[[0, 1], [2, 3]]]]), torch.tensor([[[[10, 11], [12, 13]]]])
    assert _planes(x, y, scrambled=True).tolist() == [[[[0, 10], [2, 12]], [[1, 11], [3, 13]]]]
    assert _planes(x, y, scrambled=False).tolist() == [[x[0, 0].tolist(), y[0, 0].tolist()]]


def test_a_corrected_grid_is_not_larger_than_the_map_and_a_whole_one_is():
    """One key point in the middle of the middle pixel moves it by its own shift; a finer grid has no such point."""
    shift = torch.tensor([0.0, 0.0, 0.25, 0.0]).view(1, 1, 1, 4)
    place, radius = torch.zeros(1, 1, 1, 2), torch.full((1, 1, 1), 0.01)
    fields = [
        small(Quirks.of("corrected", whole_grid=whole), 1, keypoints=1).field(5, 5, place, radius, shift)[0, 0]
        for whole in (False, True)
    ]
    own = torch.stack(torch.meshgrid(*[centres(5, shift)] * 2, indexing="xy"), dim=-1)
    assert (fields[0] - own)[2, 2].tolist() == pytest.approx([0.25, 0.0], abs=1e-6)
    assert (fields[0] - own).abs().sum().item() == pytest.approx(0.25, abs=1e-6)
    assert 0 < (fields[1] - own)[2, 2, 0].item() < 0.05


def test_gradients_are_finite_at_a_radius_of_zero_and_at_a_key_point_on_the_grid():
    places = torch.zeros(1, 2, 1, 2).requires_grad_()
    radii = torch.tensor([0.0, 0.5]).view(1, 2, 1).requires_grad_()
    similarities = torch.full((1, 2, 1, 4), 0.3).requires_grad_()
    small(channels=1, keypoints=2).field(5, 5, places, radii, similarities).square().sum().backward()
    for given in (places, radii, similarities):
        assert given.grad.isfinite().all()


def test_the_warp_stays_in_float32_under_autocast():
    warp, maps, code = small(), torch.rand(2, 3, 13, 10), torch.randn(2, 8)
    with torch.no_grad():
        plain = warp(maps, code)
        with torch.autocast("cpu", torch.bfloat16):
            cast = warp(maps, code)
            half = warp(maps.bfloat16(), code.bfloat16())
    torch.testing.assert_close(cast, plain, rtol=0, atol=0)
    assert half.dtype == torch.bfloat16


def kept_bytes(
    form: Callable[..., torch.Tensor], maps: torch.Tensor, code: torch.Tensor, warp: LocalAffineWarp
) -> tuple[int, list[torch.Tensor]]:
    """Bytes that the forward pass keeps for the backward pass, and the gradients."""
    kept = 0

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += tensor.nbytes
        return tensor

    warp.zero_grad()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        form(maps, code).square().sum().backward()
    return kept, [parameter.grad.clone() for parameter in warp.parameters()]


def test_recomputing_gives_the_same_gradients_from_half_the_memory():
    maps, code = torch.rand(1, 3, 104, 80), torch.randn(1, 8)
    warps = (small(recompute=way) for way in (False, True))
    (much, plain), (little, again) = (kept_bytes(warp, maps, code, warp) for warp in warps)
    for a, b in zip(plain, again, strict=True):
        torch.testing.assert_close(a, b)
    assert little < much / 2


def test_the_published_form_gives_the_same_maps_and_keeps_twice_as_much():
    warp, maps, code = small(PUBLISHED, 8), torch.rand(2, 8, 52, 40), torch.randn(2, 8)
    torch.testing.assert_close(warp(maps, code), published_form(warp, maps, code), rtol=0, atol=1e-4)
    much, _ = kept_bytes(partial(published_form, warp), maps, code, warp)
    little, _ = kept_bytes(warp, maps, code, warp)
    assert much > 2 * little


@pytest.mark.slow
def test_the_warp_is_three_times_as_fast_as_the_published_form():
    """Forward and backward in turn, the shortest of five each; a busy machine slows both."""
    warp, code = LocalAffineWarp(256, 256, PUBLISHED), torch.randn(1, 256)
    maps = torch.rand(1, 256, 104, 80, requires_grad=True)
    times = {"ours": [], "published": []}
    for _ in range(5):
        for name, form in (("ours", warp), ("published", partial(published_form, warp))):
            start = time.perf_counter()
            form(maps, code).sum().backward()
            times[name].append(time.perf_counter() - start)
    assert min(times["published"]) > 3 * min(times["ours"])


def test_quirks_are_all_or_none_but_for_the_switches():
    assert Quirks.of("published", dead_layers=False) == Quirks(True, True, True, False)
    assert Quirks.of("corrected", scrambled_field=True, clamped_field=None) == Quirks(True, False, False, False)
    with pytest.raises(ValueError, match="published or corrected, got 'fixed'"):
        Quirks.of("fixed")
    with pytest.raises(ValueError, match="unknown switch 'scramble'"):
        Quirks.of("corrected", scramble=True)
