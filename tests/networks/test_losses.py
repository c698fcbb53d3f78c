from __future__ import annotations

import pytest
import torch
from torch import nn

from talkingface.networks.losses import (
    PerceptualLoss,
    feature_matching,
    gram,
    lip_weight_map,
    lsgan,
    lsgan_discriminator,
    velocity_loss,
    weighted_pyramid_l1,
)


def maps(*values):
    """Two scales with one feature map and a score, each filled with one value."""
    feature, score = values
    return [[torch.full((1, 2, 4, 4), feature), torch.full((1, 1, 2, 2), score)] for _ in range(2)]


def test_lsgan_sums_scales():
    assert lsgan(maps(0.0, 0.5), real=True).item() == pytest.approx(2 * 0.25)
    assert lsgan(maps(0.0, 0.5), real=False).item() == pytest.approx(2 * 0.25)
    assert lsgan_discriminator(maps(0.0, 0.2), maps(0.0, 0.7)).item() == pytest.approx(0.5 * 2 * (0.04 + 0.09))


def test_feature_matching_ignores_scores_and_keeps_the_target_fixed():
    fake, real = maps(1.0, 9.0), maps(3.0, 0.0)
    for scale in (*fake, *real):
        scale[0].requires_grad_()
    loss = feature_matching(fake, real)
    assert loss.item() == pytest.approx(2.0)
    loss.backward()
    assert fake[0][0].grad is not None
    assert real[0][0].grad is None


def test_velocity_compares_motion_inside_windows_only():
    track = torch.zeros(4, 2, 3)
    moved = track.clone()
    moved[2:] += 5.0  # a jump between the windows (0, 1) and (2, 3)
    assert velocity_loss(moved, track, frames=2).item() < 1e-4
    assert velocity_loss(moved, track, frames=4).item() == pytest.approx(5 * 6**0.5 / 3, rel=1e-4)


def test_gram_of_one_channel_is_the_mean_square():
    features = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    assert gram(features).item() == pytest.approx(30 / 4)


class Identity(nn.Module):
    """Stands for VGG19: the images themselves are the features."""

    def forward(self, images):
        return [images]


def test_perceptual_input_modes():
    images, truth = torch.rand(2, 1, 3, 8, 8)
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    published = PerceptualLoss(Identity(), "published", scales=1)
    content, style = published(images, published.target(truth))
    assert style is None
    torch.testing.assert_close(content, ((images - truth) / 2 / std).abs().mean())
    natural = PerceptualLoss(Identity(), "rgb01", scales=1)
    content, _ = natural(images, natural.target(truth))
    torch.testing.assert_close(content, ((images - truth).flip(1) / std).abs().mean())
    with pytest.raises(ValueError, match="published or rgb01"):
        PerceptualLoss(Identity(), "bgr")


def test_perceptual_loss_stays_an_expert_and_gives_gradients_to_the_image_alone():
    network = nn.Conv2d(3, 2, 1)
    loss = PerceptualLoss(nn.Sequential(network, _Listed()))
    nn.Sequential(loss).train()
    assert not loss.network.training
    images, truth = torch.rand(2, 1, 3, 8, 8)
    images.requires_grad_(), truth.requires_grad_()
    content, style = loss(images, loss.target(truth), style=True)
    (content + style).backward()
    assert images.grad.abs().sum() > 0
    assert truth.grad is None
    assert network.weight.grad is None


class _Listed(nn.Module):
    def forward(self, x):
        return [x]


def test_pyramid_of_a_constant_offset_has_no_gradient_term():
    truth = torch.rand(2, 3, 16, 16)
    pixels, gradients = weighted_pyramid_l1(truth + 0.25, truth)
    assert pixels.item() == pytest.approx(3 * 0.25, rel=1e-5)
    assert gradients.item() == pytest.approx(0, abs=1e-6)


def test_weights_move_the_loss_to_where_they_are():
    truth = torch.zeros(1, 3, 32, 32)
    mouth, brow = truth.clone(), truth.clone()
    mouth[..., 20:26, 10:22] = 1
    brow[..., 2:8, 10:22] = 1
    weight = torch.ones(1, 1, 32, 32)
    weight[..., 17:29, 7:25], weight[..., :10, :] = 4.0, 0.3
    ratio = weighted_pyramid_l1(mouth, truth, weight, (1,))[0] / weighted_pyramid_l1(brow, truth, weight, (1,))[0]
    assert ratio.item() == pytest.approx(4 / 0.3, rel=1e-4)


def test_lip_weights_follow_the_landmarks():
    lips = torch.tensor([[[0.4, 0.6], [0.7, 0.8]], [[0.1, 0.2], [0.5, 0.6]]])  # corners of a box, x then y
    weight = lip_weight_map(lips, 20, margin=0.0)
    assert weight.shape == (2, 1, 20, 20)
    assert (weight[0, 0, 14:16, 8:12] == 4).all() and int((weight[0] == 4).sum()) == 8
    assert (weight[1, 0, 10:12, 2:4] == 4).all() and int((weight[1] == 4).sum()) == 4
    torch.testing.assert_close(weight[:, :, 0], torch.full((2, 1, 20), 0.3))
