"""What metrics with a network share: precision, batches by size and pixels, weight files that cannot be read."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from talkingface.errors import Unavailable
from talkingface.evaluation.metrics import inference
from talkingface.evaluation.metrics.inference import batches, find_weights
from talkingface.faces.s3fd import S3FDDetector
from talkingface.lipsync.expert.embedding import embed_clip
from talkingface.networks.precision import judging
from talkingface.networks.s3fd import STRIDES


@pytest.fixture
def tf32():
    """TF32 is allowed, as somebody who trains may have it; gives what is allowed at the moment."""
    convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = convolutions.allow_tf32, products.allow_tf32
    convolutions.allow_tf32 = products.allow_tf32 = True
    yield lambda: (convolutions.allow_tf32, products.allow_tf32)
    convolutions.allow_tf32, products.allow_tf32 = before


class Watching(nn.Module):
    """Stands in for S3FD and for a lip-sync expert; notes what is allowed while it computes."""

    def __init__(self, allowed) -> None:
        super().__init__()
        self.allowed, self.seen = allowed, []
        self.weight = nn.Parameter(torch.zeros(1))

    cosine, bgr, hears = True, True, "mel"

    def forward(self, images):
        self.seen.append(self.allowed())
        return [torch.zeros(len(images), depth, 1, 1) for _ in STRIDES for depth in (2, 4)]

    def embed_faces(self, faces):
        self.seen.append(self.allowed())
        return faces.mean((2, 3))

    embed_audio = embed_faces


def test_judges_compute_in_full_float32_and_leave_the_switches_as_they_were(tf32):
    with judging("32", "cpu"):
        assert tf32() == (False, False) and torch.is_inference_mode_enabled()
    assert tf32() == (True, True)
    with pytest.raises(KeyError), judging("32", "cpu"):
        raise KeyError
    assert tf32() == (True, True)


def test_the_face_detector_and_the_expert_do_so_too(tf32):
    network = Watching(tf32)
    S3FDDetector(network).detect([np.zeros((64, 64, 3), np.uint8)])
    embed_clip(network, np.zeros((6, 24, 48, 3), np.uint8), np.zeros((80, 40), np.float32), np.arange(2))
    assert network.seen == [(False, False)] * 3 and tf32() == (True, True)


def test_batches_end_before_they_have_too_many_items_or_pixels():
    assert list(batches(range(5), 2)) == [[0, 1], [2, 3], [4]]
    areas = [4, 4, 4, 1, 1, 1, 1, 50, 1]
    assert list(batches(areas, 3, lambda area: area, 9)) == [[4, 4], [4, 1, 1], [1, 1], [50], [1]]


def test_a_file_that_cannot_be_read_makes_the_metric_unavailable(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(inference, "sha256_of", refuse)
    (tmp_path / "mine.pth").write_bytes(b"weights")
    with pytest.raises(Unavailable, match=r"weights cannot be read: .*mine\.pth \(Permission denied\)"):
        find_weights("inception", tmp_path, str(tmp_path / "mine.pth"), "fid_weights_path")
