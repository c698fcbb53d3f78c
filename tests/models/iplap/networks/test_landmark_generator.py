from __future__ import annotations

import pytest
import torch

from talkingface.models.iplap.networks.landmark_generator import LandmarkGenerator

SMALL = {"d_model": 32, "nlayers": 2, "nhead": 4, "dim_feedforward": 48, "dropout": 0.0, "width": 0.25}


def inputs(batch=2, frames=5, references=3):
    torch.manual_seed(0)
    return (
        torch.randn(batch, frames, 1, 80, 16),
        torch.rand(batch, frames, 2, 74),
        torch.rand(batch, references, 2, 74),
        torch.rand(batch, references, 2, 57),
    )


@torch.no_grad()
def test_frames_encoded_once_give_the_same_landmarks_as_separate_windows():
    torch.manual_seed(0)
    network = LandmarkGenerator(**SMALL).eval()
    mels, pose, ref_pose, ref_content = inputs(batch=1, frames=8)
    mel_tokens, pose_tokens = network.encode_mel(mels[0]), network.encode_pose(pose[0])
    references = network.encode_reference(ref_pose, ref_content)
    windows = [slice(start, start + 5) for start in range(4)]
    shared = network.fuse(
        torch.stack([mel_tokens[w] for w in windows]), torch.stack([pose_tokens[w] for w in windows]), references
    )
    separate = torch.cat([network(mels[:, w], pose[:, w], ref_pose, ref_content) for w in windows])
    assert shared.shape == (20, 2, 57)
    torch.testing.assert_close(shared, separate, rtol=0, atol=1e-6)


@torch.no_grad()
def test_output_mean_is_where_prediction_starts():
    network = LandmarkGenerator(**SMALL).eval()
    mean = torch.rand(2, 57)
    network.set_output_mean(mean)
    for head in (network.mouse_keypoint_map, network.jaw_keypoint_map):
        head.weight.zero_()
    torch.testing.assert_close(network(*inputs()), mean.expand(10, 2, 57))


@torch.no_grad()
def test_bf16_autocast_returns_float32_coordinates():
    network = LandmarkGenerator(**SMALL).eval()
    exact = network(*inputs())
    with torch.autocast("cpu", torch.bfloat16):
        rounded = network(*inputs())
    assert rounded.dtype == torch.float32
    assert float((rounded - exact).abs().max()) < 0.1


def test_width_makes_the_encoders_smaller():
    small, large = (LandmarkGenerator(width=width, d_model=64) for width in (0.25, 1.0))
    count = [sum(p.numel() for p in n.mel_encoder.parameters()) for n in (small, large)]
    assert count[0] < count[1] / 5


def test_token_size_must_fit_the_heads():
    with pytest.raises(ValueError, match="d_model must be even and a multiple of nhead 4, got 30"):
        LandmarkGenerator(d_model=30)
