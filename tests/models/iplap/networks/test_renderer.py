from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from talkingface.models.iplap.networks.alignment import AlignmentModule, sampling_grid
from talkingface.models.iplap.networks.renderer import Renderer
from talkingface.networks.spade import SpadeLayer

SIZE = 32
SMALL = {"img_size": SIZE, "width": 0.25, "spade_hidden": 64}


def inputs(batch=2, references=3):
    torch.manual_seed(1)
    return (
        torch.rand(batch, 1, 3, SIZE, SIZE),
        torch.rand(batch, 5, 1, SIZE, SIZE),
        torch.rand(batch, references, 3, SIZE, SIZE),
        torch.rand(batch, references, 1, SIZE, SIZE),
        torch.randn(batch, 1, 1, 80, 16),
    )


def renderer(**settings):
    torch.manual_seed(0)
    return Renderer(**(SMALL | settings)).eval()


def published_order_of_work(module: AlignmentModule, images, ref_sketches, drive):
    """Alignment as the paper's code does it: reference by reference, modulations anew and by two convolutions."""
    for layer in module.modules():
        if isinstance(layer, SpadeLayer):
            layer.composes = False
    small = F.interpolate(drive, scale_factor=0.5, mode="nearest")
    sums, total = None, 0
    for i in range(images.shape[1]):
        x = torch.cat([images[:, i], ref_sketches[:, i]], dim=1)
        fine = F.relu(module.conv1_bn(module.conv1(x)))
        coarse = F.relu(module.conv2_bn(module.conv2(fine)))
        x = module.spade_layer_2(module.spade_layer_1(coarse, small), small)
        x = module.spade_layer_4(F.pixel_shuffle(x, 2), drive)
        weight = torch.sigmoid(module.conv_5(x))
        grid = sampling_grid(module.conv_4(x))
        half = F.interpolate(grid.permute(0, 3, 1, 2), scale_factor=0.5, mode="bilinear").permute(0, 2, 3, 1)
        half_weight = F.interpolate(weight, scale_factor=0.5)
        terms = [F.grid_sample(t, grid, align_corners=False) * weight for t in (fine, images[:, i])]
        terms.insert(1, F.grid_sample(coarse, half, align_corners=False) * half_weight)
        sums = terms if sums is None else [a + b for a, b in zip(sums, terms)]
        total = total + weight
    total = total + 1e-5
    return sums[0] / total, sums[1] / F.interpolate(total, scale_factor=0.5), sums[2] / total


@pytest.mark.parametrize("training", [False, True])
@torch.no_grad()
def test_hoisted_modulation_gives_the_published_numbers(training):
    network = renderer().train(training)
    _, sketches, images, ref_sketches, _ = inputs()
    arguments = (images, ref_sketches.expand(-1, -1, 3, -1, -1), sketches.expand(-1, -1, 3, -1, -1).flatten(1, 2))
    state = {key: value.clone() for key, value in network.state_dict().items()}
    ours = network.flow_module(*arguments)
    moved = {key: value.clone() for key, value in network.state_dict().items()}
    network.load_state_dict(state)
    theirs = published_order_of_work(network.flow_module, *arguments)
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b, rtol=0, atol=3e-6)
    for key, value in network.state_dict().items():  # the running statistics moved alike, once per reference
        torch.testing.assert_close(moved[key], value)
    assert int(moved["flow_module.conv1_bn.num_batches_tracked"]) == (3 if training else 0)


@torch.no_grad()
def test_cached_references_and_groups_do_not_change_the_picture():
    network = renderer()
    face, sketches, images, ref_sketches, mels = inputs(references=5)
    images, ref_sketches = images[:1], ref_sketches[:1]
    want, _ = network(face, sketches, images.expand(2, -1, -1, -1, -1), ref_sketches.expand(2, -1, -1, -1, -1), mels)
    references = network.encode_references(images, ref_sketches)
    for group in (1, 2, 5, 8):
        network.flow_module.group_size = group
        got, _ = network.forward_with_references(face, sketches, references, mels)
        torch.testing.assert_close(got, want, rtol=0, atol=2e-6)


@torch.no_grad()
def test_lower_half_of_the_face_is_never_seen():
    network = renderer()
    face, *rest = inputs()
    masked = face.clone()
    masked[..., SIZE // 2 :, :] = 0
    full, _ = network(face, *rest)
    hidden, _ = network(masked[:, 0], *rest)
    assert torch.equal(full, hidden)
    other, _ = network(1 - face, *rest)
    assert not torch.equal(full, other)


@torch.no_grad()
def test_one_sketch_channel_equals_three():
    network = renderer()
    face, sketches, images, ref_sketches, mels = inputs()
    three = (face, sketches.repeat(1, 1, 3, 1, 1), images, ref_sketches.repeat(1, 1, 3, 1, 1), mels)
    assert torch.equal(network(face, sketches, images, ref_sketches, mels)[0], network(*three)[0])


def test_warp_only_leaves_the_translation_alone():
    network = renderer().train()
    generated, warped = network(*inputs(), warp_only=True)
    assert generated is None
    warped.mean().backward()
    assert all(p.grad is None for p in network.translation.parameters())
    assert network.flow_module.conv_4.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("output", ["translation", "warp_residual"])
def test_both_outputs_are_pictures_that_learn(output):
    network = renderer(output=output)
    generated, warped = network(*inputs())
    assert generated.shape == warped.shape == (2, 3, SIZE, SIZE)
    assert bool(((generated >= 0) & (generated <= 1)).all())
    network.train()(*inputs())[0].mean().backward()
    missing = [name for name, p in network.named_parameters() if p.grad is None]
    assert not missing


@torch.no_grad()
def test_bf16_autocast_stays_close():
    network = renderer()
    exact, exact_warp = network(*inputs())
    with torch.autocast("cpu", torch.bfloat16):
        rounded, warp = network(*inputs())
    assert rounded.dtype == warp.dtype == torch.float32
    assert float((rounded - exact).abs().mean()) < 0.02
    assert float((warp - exact_warp).abs().mean()) < 0.02


def test_sizes_are_checked():
    with pytest.raises(ValueError, match="img_size must be a multiple of 4, got 98"):
        Renderer(img_size=98)
    with pytest.raises(ValueError, match="output must be"):
        Renderer(output="flow")
    with pytest.raises(ValueError, match="expected images of 64 pixels, got \\(32, 32\\)"):
        Renderer(img_size=64, width=0.25, spade_hidden=8)(*inputs())
