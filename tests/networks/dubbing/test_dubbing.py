"""What DINet and LawDNet share beside the published numbers: sizes, holes, clips in a batch, scores, losses."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from talkingface.networks.dubbing import geometry
from talkingface.networks.dubbing.discriminator import DubbingDiscriminator, clip_channels, least_side
from talkingface.networks.dubbing.geometry import feather, hard_hole, hide, mouth_crop, soft_hole
from talkingface.networks.dubbing.losses import Clips, discriminator_loss, fooling_loss, perceptual, sync_loss
from talkingface.networks.dubbing.objective import Weights, frame_terms
from talkingface.networks.dubbing.sync_expert import MouthSyncExpert, sync_error

SIZES = {64: (104, 80, 32, 8), 128: (208, 160, 64, 16), 256: (416, 320, 128, 32), 288: (468, 360, 144, 36)}


@pytest.mark.parametrize("mouth", SIZES)
def test_crops_have_the_published_sizes(mouth):
    crop, (height, width, top, left) = mouth_crop(mouth), SIZES[mouth]
    assert (crop.height, crop.width) == (height, width)
    assert (crop.rows, crop.columns) == (slice(top, top + mouth), slice(left, left + mouth))


@pytest.mark.parametrize("mouth", [0, 16, 48, 100])
def test_other_mouths_are_refused_in_words(mouth):
    with pytest.raises(ValueError, match=f"multiple of 32 pixels, got {mouth}"):
        mouth_crop(mouth)


def test_a_hard_hole_hides_the_mouth_and_nothing_else():
    crop = mouth_crop(32)
    hidden = hide(torch.ones(2, 3, crop.height, crop.width), hard_hole(crop))
    assert not crop.cut(hidden).any()
    assert hidden.sum() == 6 * (crop.height * crop.width - 32 * 32)


def test_a_soft_hole_is_larger_than_the_mouth_as_published():
    """Its half level at 416x320 lies at rows 126 to 394 and columns 25 to 294, that of the mouth at 128 and 32."""
    inside = soft_hole(416, 320)[0, 0] >= 0.5
    rows, columns = inside.any(1).nonzero().flatten(), inside.any(0).nonzero().flatten()
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (126, 394, 25, 294)
    geometry._blurred_canvas.cache_clear()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(soft_hole(416, 320)[0, 0] >= 0.5, inside) and soft_hole(416, 320).dtype == torch.float32
    assert feather(soft_hole(416, 320)).aminmax() == pytest.approx((0.2, 1.0))


@pytest.mark.parametrize(("blocks", "least"), [(3, 25), (4, 53)])
def test_discriminators_say_what_they_cannot_see(blocks, least):
    network = DubbingDiscriminator(3, blocks, 0.125)
    assert least_side(blocks) == least
    assert network(torch.rand(1, 3, least, least))[-1].shape == (1, 1, 1, 1)
    with pytest.raises(ValueError, match=f"{blocks} blocks needs sides of {least} pixels, got {least - 1}x{least}"):
        network(torch.rand(1, 3, least, least - 1))
    with pytest.raises(ValueError, match="3 or 4 blocks, got 5"):
        DubbingDiscriminator(3, 5)


def test_frames_of_three_clips_come_together_clip_by_clip():
    """Frame 0 of all clips first: value 10 * clip + frame."""
    batch = torch.tensor([[10 * clip + frame] for frame in range(5) for clip in range(3)])[..., None, None]
    assert clip_channels(batch, 3).flatten(1).tolist() == [[10 * clip + f for f in range(5)] for clip in range(3)]


def test_expert_and_clip_discriminator_see_one_clip_whatever_the_batch():
    torch.manual_seed(0)
    expert, judge, crop = MouthSyncExpert(0.125).eval(), DubbingDiscriminator(15, 3, 0.125), mouth_crop(32)
    frames, audio = torch.rand(3, 5, 3, crop.height, crop.width), torch.randn(3, 29, 9)
    together = Clips(crop, audio, side=64)
    mixed = frames.transpose(0, 1).flatten(0, 1)
    alone = [Clips(crop, audio[k : k + 1], side=64) for k in range(3)]
    with torch.no_grad():
        sync = torch.stack([sync_loss(expert, frames[k], alone[k]) for k in range(3)]).mean()
        torch.testing.assert_close(sync_loss(expert, mixed, together), sync)
        opinions = torch.cat([judge(clips.stacked(frames[k]))[-1] for k, clips in enumerate(alone)])
        torch.testing.assert_close(judge(together.stacked(mixed))[-1], opinions)


@torch.no_grad()
def test_scores_of_all_pairs_are_those_of_each_pair():
    torch.manual_seed(0)
    expert = MouthSyncExpert(0.25).eval()
    expert.merge_encoder[2].bias.fill_(0.5)
    mouths, rows = torch.rand(3, 15, 64, 64), torch.randn(4, 29, 9)
    each = torch.tensor([[expert(m[None], r[None]).mean() for r in rows] for m in mouths])
    scores = expert.scores(expert.embed_faces(mouths), expert.embed_audio(rows))
    assert scores.shape == (3, 4) and scores.min() > 0 and scores.max() < 1
    torch.testing.assert_close(scores, each)
    expert.merge_encoder[2].bias.fill_(5.0)
    assert (expert.scores(expert.embed_faces(mouths), expert.embed_audio(rows)) == 1).all()


def test_the_expert_refuses_mouths_that_32_does_not_divide():
    with pytest.raises(ValueError, match="multiple of 32 pixels, got 48x64"):
        MouthSyncExpert(0.125).embed_faces(torch.rand(1, 15, 64, 48))


def test_a_clipped_score_counts_as_the_bound_and_keeps_its_gradient():
    """Scores -1, 0.5 and 3: errors 1, 0.25 and 0 of the target 1, and gradients 2 (score - 1) / 3 of the cut score."""
    score = torch.tensor([-1.0, 0.5, 3.0], requires_grad=True)
    loss = sync_error(score, clipped=True)
    loss.backward()
    assert loss.item() == pytest.approx(1.25 / 3)
    assert score.grad.tolist() == pytest.approx([-2 / 3, -1 / 3, 0.0])
    assert sync_error(score).item() == pytest.approx((4 + 0.25 + 4) / 3)


@pytest.mark.parametrize("through", [False, True])
def test_the_discriminators_loss_reaches_the_generator_only_where_asked_for(through):
    torch.manual_seed(0)
    network = DubbingDiscriminator(3, 3, 0.125)
    fake, real = torch.rand(2, 3, 52, 40, requires_grad=True), torch.rand(2, 3, 52, 40)
    loss = discriminator_loss(network, fake, real, through)
    scores = [network(pictures)[-1] for pictures in (fake, real)]
    assert loss.item() == pytest.approx(0.5 * (scores[0].square().mean() + (scores[1] - 1).square().mean()).item())
    assert fooling_loss(network, fake).item() == pytest.approx((scores[0] - 1).square().mean().item())
    loss.backward()
    assert (fake.grad is not None) == through


class Pictures(nn.Module):
    """A network whose only feature map is what it is shown."""

    def forward(self, pictures: torch.Tensor) -> list[torch.Tensor]:
        return [pictures]


def test_halves_of_fakes_are_blurred_and_those_of_true_pictures_are_not():
    """A single bright pixel at (0, 0): 1/4 of a mean of 2x2 both ways, for the border leaves 4 of the 9 pixels.

    At (1, 1) it is in four means of 3x3, of 4, 6, 6 and 9 pixels, and in one of 2x2.
    """
    fake, real = torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    std = torch.tensor([0.229, 0.224, 0.225])
    fake[..., 0, 0] = 1
    assert perceptual(Pictures(), fake, fake).item() == pytest.approx(0, abs=1e-6)
    fake[..., 0, 0], fake[..., 1, 1] = 0, 1
    full = 1 / 16
    half = (abs(1 / 4 - 0) + 1 / 6 + 1 / 6 + 1 / 9) / 4
    assert perceptual(Pictures(), fake, real).item() == pytest.approx(((full + half) / 2 / std).mean().item(), rel=1e-5)


def test_terms_carry_their_weights_and_the_image_term_is_lawdnets_alone():
    torch.manual_seed(0)
    judge, fake, real = DubbingDiscriminator(3, 3, 0.125), torch.rand(1, 3, 52, 40), torch.rand(1, 3, 52, 40)
    plain = frame_terms(Pictures(), judge, fake, real, Weights(1.0, 1.0, 1.0))
    weighed = frame_terms(Pictures(), judge, fake, real, Weights(2.0, 3.0, 5.0))
    ratios = {name: (weighed[name] / plain[name]).item() for name in plain}
    assert ratios == pytest.approx({"perception": 2, "image": 3, "frame": 5})
    assert plain["image"].item() == pytest.approx((fake - real).square().mean().item())
    assert set(frame_terms(Pictures(), judge, fake, real, Weights())) == {"perception", "frame"}
