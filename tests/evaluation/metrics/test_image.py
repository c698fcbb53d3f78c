from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from talkingface.errors import NoFaceError
from talkingface.evaluation.metric import make_metric
from talkingface.evaluation.metrics.image import psnr, ssim
from talkingface.evaluation.sample import EvalSample
from talkingface.media import VideoWriter


def frame_pair(height, width, seed=0):
    rng = np.random.default_rng(seed)
    real = np.kron(rng.integers(30, 220, (height // 8 + 1, width // 8 + 1, 3)), np.ones((8, 8, 1)))[:height, :width]
    noisy = real + rng.normal(0, 12, real.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8), real.astype(np.uint8)


def piq_by_torch(a, b):
    """The published formula with torch convolutions, written independently of ours."""
    x, y = (torch.from_numpy(i / 255.0).permute(2, 0, 1)[None].double() for i in (a, b))
    factor = max(1, round(min(x.shape[-2:]) / 256))
    x, y = (F.avg_pool2d(i, factor) if factor > 1 else i for i in (x, y))
    grid = torch.arange(11).double() - 5
    kernel = torch.exp(-(grid[:, None] ** 2 + grid[None] ** 2) / 4.5)
    kernel = (kernel / kernel.sum()).expand(3, 1, 11, 11)

    def blur(i):
        return F.conv2d(i, kernel, groups=3)

    mu_x, mu_y = blur(x), blur(y)
    var_x, var_y, cov = blur(x * x) - mu_x**2, blur(y * y) - mu_y**2, blur(x * y) - mu_x * mu_y
    contrast = (2 * cov + 0.03**2) / (var_x + var_y + 0.03**2)
    return float(((2 * mu_x * mu_y + 0.01**2) / (mu_x**2 + mu_y**2 + 0.01**2) * contrast).mean())


@pytest.mark.parametrize("size", [(96, 96), (70, 133), (384, 400), (640, 641)])
def test_piq_ssim_equals_torch_convolutions(size):
    a, b = frame_pair(*size)
    assert ssim(a, b, "piq") == pytest.approx(piq_by_torch(a, b), abs=2e-6)


def test_pooling_factor_rounds_half_to_even():
    a, b = frame_pair(384, 400)  # 1.5 -> 2
    c, d = frame_pair(640, 641)  # 2.5 -> 2
    for pair in ((a, b), (c, d)):
        halved = [p[: p.shape[0] // 2 * 2, : p.shape[1] // 2 * 2].astype(float) for p in pair]
        halved = [p.reshape(p.shape[0] // 2, 2, p.shape[1] // 2, 2, 3).mean(axis=(1, 3)) for p in halved]
        want = structural_similarity(
            *halved, data_range=255, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        assert ssim(*pair, "piq") == pytest.approx(want, abs=1e-5)


def test_skimage_variants_equal_skimage():
    a, b = frame_pair(90, 120)
    assert ssim(a, b, "skimage") == pytest.approx(structural_similarity(a, b, channel_axis=2), abs=1e-10)
    gaussian = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    wang = structural_similarity(a, b, channel_axis=2, **gaussian)
    assert ssim(a, b, "wang") == pytest.approx(wang, abs=1e-10)
    assert psnr(a, b, "skimage") == pytest.approx(peak_signal_noise_ratio(b, a), abs=1e-10)


def test_gray224_resizes_in_colour_first():
    import cv2

    a, b = frame_pair(100, 180)
    gray = [cv2.cvtColor(cv2.resize(f[..., ::-1], (224, 224)), cv2.COLOR_BGR2GRAY) for f in (a, b)]
    assert ssim(a, b, "gray224") == pytest.approx(structural_similarity(*gray), abs=1e-10)


def test_psnr_by_hand_and_of_equal_frames():
    a = np.full((16, 16, 3), 100, np.uint8)
    b = np.full((16, 16, 3), 110, np.uint8)
    assert psnr(a, b, "skimage") == pytest.approx(20 * math.log10(255 / 10))
    assert psnr(a, a, "piq") == pytest.approx(80.0)
    assert psnr(a, a, "skimage") == math.inf
    assert all(ssim(a, a, v) == pytest.approx(1.0) for v in ("piq", "gray224", "skimage", "wang"))


def test_frame_smaller_than_the_window_is_undefined():
    a, b = frame_pair(10, 40)
    assert math.isnan(ssim(a, b, "piq"))
    assert math.isfinite(ssim(a, b, "skimage"))


def test_a_region_without_landmarks_is_left_out_and_noted_once(tmp_path):
    clip = tmp_path / "a.mp4"
    with VideoWriter(clip, fps=25) as writer:
        for shade in (40, 90, 140):
            writer.write(np.full((32, 48, 3), shade, np.uint8))

    def nothing():
        raise NoFaceError("a.mp4: no face found in any frame")

    sample = EvalSample("a", "real", clip, clip, reference_track=nothing)
    for name in ("SSIM", "PSNR"):
        key = name.lower()
        values = make_metric(name).score(sample)
        assert math.isfinite(values[key]) and math.isnan(values[f"{key}_mouth"])
        assert (sample.frames[key], sample.frames[f"{key}_mouth"], sample.excluded[f"{key}_mouth"]) == (3, 0, 3)
    assert sample.notes == ["no mouth region: a.mp4: no face found in any frame"]
