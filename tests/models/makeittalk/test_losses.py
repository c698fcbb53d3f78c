"""MakeItTalk's terms by hand; the published values are compared in `tests/parity`."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from talkingface.models.makeittalk.losses import (
    TranslationLoss,
    batch_gram,
    landmark_l1,
    laplacian,
    laplacian_l1,
    least_squares,
    lip_weights,
    motion_l1,
)
from talkingface.networks.losses import gram


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def test_lips_count_for_ten_when_closed_and_for_less_the_more_they_are_open():
    faces = torch.zeros(2, 68, 3)
    faces[1, 66, 1] = 0.1
    weights = lip_weights(faces)
    assert (weights[:, :48] == 1).all()
    assert weights[0, 48:].unique().item() == pytest.approx(10)
    assert weights[1, 48:].unique().item() == pytest.approx(2)


def test_an_error_of_the_lips_costs_more_than_one_of_the_jaw():
    target, jaw, lip = torch.zeros(1, 204), torch.zeros(1, 204), torch.zeros(1, 204)
    jaw[0, 0] = lip[0, 3 * 50] = 0.1
    assert landmark_l1(lip, target).item() == pytest.approx(10 * landmark_l1(jaw, target).item())
    assert landmark_l1(lip, target, lips=False).item() == pytest.approx(0.1 / 204)


def test_the_laplacian_is_blind_for_shifts_and_zero_inside_straight_lines():
    faces = torch.zeros(1, 68, 3)
    faces[0, :, 0] = torch.arange(68.0)
    bent = laplacian(faces)[0, :, 0]
    assert not bent[1:16].any() and not bent[28:35].any()
    assert bent[0] == -1 and bent[16] == 1  # an end has one neighbour
    assert bent[36] == (36 - (37 + 41) / 2)  # a closed line goes round
    given = torch.randn(2, 204)
    assert laplacian_l1(given + 5, given).item() == pytest.approx(0, abs=1e-6)


def test_motion_compares_steps_and_not_places():
    given = torch.randn(6, 204)
    assert motion_l1(given + 5, given).item() == pytest.approx(0, abs=1e-6)
    moving = given + torch.arange(6.0)[:, None]
    assert motion_l1(moving, given).item() == pytest.approx(1, abs=1e-5)


def test_least_squares_leaves_out_what_is_not_judged():
    scores = torch.tensor([[[1.0], [0.5]], [[0.0], [9.0]]])
    judged = torch.tensor([[True, True], [True, False]])
    assert least_squares(scores, True, judged).item() == pytest.approx((0 + 0.25 + 1) / 3)
    assert least_squares(scores[:1], False).item() == pytest.approx((1 + 0.25) / 2)
    assert least_squares(scores, True, torch.zeros(2, 2, dtype=torch.bool)).item() == 0


class Channels(nn.Module):
    """Stands for VGG19: two maps."""

    def forward(self, images):
        return [images, images[:, :2, ::2, ::2] ** 2]


def test_pictures_of_a_batch_do_not_mix_unless_asked_to():
    drawn, target = torch.rand(3, 3, 8, 8), torch.rand(3, 3, 8, 8)
    loss = TranslationLoss(Channels())
    together = loss(drawn, target)
    alone = [loss(drawn[k : k + 1], target[k : k + 1]) for k in range(3)]
    for name, term in together.items():
        assert term.item() == pytest.approx(sum(part[name].item() for part in alone) / 3, rel=1e-5), name
    mixed = TranslationLoss(Channels(), "batch")(drawn, target)
    assert mixed["l1"] == together["l1"] and mixed["style"] != pytest.approx(together["style"].item(), rel=0.1)


def test_one_picture_has_the_same_gram_matrix_either_way():
    features = torch.rand(1, 4, 5, 5)
    torch.testing.assert_close(batch_gram(features), gram(features)[0])
    assert batch_gram(torch.rand(2, 4, 5, 5)).shape == (8, 8)


def test_the_target_and_the_expert_get_no_gradient_and_the_expert_stays_in_eval():
    expert = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout())
    expert.forward = lambda images: [expert[0](images)]
    loss = TranslationLoss(expert).train()
    drawn, target = (torch.rand(1, 3, 8, 8, requires_grad=True) for _ in range(2))
    torch.stack(list(loss(drawn, target).values())).sum().backward()
    assert drawn.grad.any() and target.grad is None and expert[0].weight.grad is None
    assert not expert.training
