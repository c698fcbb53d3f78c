"""Promises of HyperLipsBase's networks beside the published numbers: sizes, halves, memory."""

from __future__ import annotations

import pytest
import torch

from talkingface.models.hyperlips_base.networks.discriminator import HalfFaceDiscriminator
from talkingface.models.hyperlips_base.networks.generator import HyperLipsGenerator


@pytest.fixture(scope="module")
def narrow() -> HyperLipsGenerator:
    """A small generator in eval mode whose norms have seen something."""
    torch.manual_seed(0)
    network = HyperLipsGenerator(width=0.125)
    network(torch.randn(8, 1, 80, 16), torch.rand(8, 6, 64, 64))
    return network.eval()


def sounds_and_faces(batch: int, frames: int, side: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    mel = torch.randn(batch, frames, 1, 80, 16, generator=random)
    return mel, torch.rand(batch, 6, frames, side, side, generator=random)


@pytest.mark.parametrize("side", [32, 48, 64, 128])
def test_faces_of_any_side_that_sixteen_divides_keep_it(narrow, side):
    mel, faces = sounds_and_faces(1, 2, side)
    assert narrow(mel, faces).shape == (1, 3, 2, side, side)


def test_every_sound_gets_kernels_of_its_own_whatever_else_is_in_the_batch(narrow):
    mel, faces = sounds_and_faces(5, 1)
    mel, faces = mel[:, 0], faces[:, :, 0]
    with torch.no_grad():
        together = narrow(mel, faces)
        alone = torch.cat([narrow(mel[i : i + 1], faces[i : i + 1]) for i in range(5)])
        same_face = narrow(mel, faces[:1].expand_as(faces))
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)
    assert (same_face[0] - same_face[1]).abs().max() > 1e-4


@pytest.mark.parametrize("side", [32, 64, 128])
def test_the_lower_half_alone_is_the_lower_half_of_the_whole(narrow, side):
    mel, faces = sounds_and_faces(3, 1, side)
    mel, faces = mel[:, 0], faces[:, :, 0]
    with torch.no_grad():
        whole, half = narrow(mel, faces), narrow.lower_half(mel, faces)
    torch.testing.assert_close(half, whole[:, :, side // 2 :], rtol=0, atol=1e-5)


def test_memory_starts_as_the_published_call_and_then_differs(narrow):
    mel, faces = sounds_and_faces(2, 4)
    with torch.no_grad():
        single, (followed, _) = narrow(mel, faces), narrow.follow(mel, faces)
    torch.testing.assert_close(followed[:, :, 0], single[:, :, 0])
    assert (followed[:, :, 3] - single[:, :, 3]).abs().max() > 1e-4


def test_memory_runs_on_from_call_to_call(narrow):
    mel, faces = sounds_and_faces(2, 7)
    with torch.no_grad():
        whole = narrow.follow(mel, faces).faces
        parts, state = [], None
        for start, end in ((0, 1), (1, 4), (4, 7)):
            drawn, state = narrow.follow(mel[:, start:end], faces[:, :, start:end], state)
            parts.append(drawn)
    torch.testing.assert_close(torch.cat(parts, dim=2), whole, rtol=0, atol=1e-6)


def test_the_whole_recurrent_kernel_learns_where_there_is_memory(narrow):
    mel, faces = sounds_and_faces(1, 3)
    narrow.zero_grad()
    narrow.follow(mel, faces).faces.sum().backward()
    gru = narrow.decoder.decode1.gru
    assert gru.ih[0].weight.grad[: gru.channels].any() and gru.hh[0].weight.grad[:, gru.channels :].any()


def test_published_width_has_the_published_number_of_parameters():
    with torch.device("meta"):
        assert sum(p.numel() for p in HyperLipsGenerator().parameters()) == 29_716_503
        assert sum(p.numel() for p in HalfFaceDiscriminator().parameters()) == 14_113_793


@pytest.mark.parametrize("side", [16, 32, 64, 96, 128, 256])
def test_the_discriminator_takes_faces_of_all_sides(side):
    opinion = HalfFaceDiscriminator(side, width=0.1)(torch.rand(2, 3, 5, side, side))
    assert opinion.shape == (10, 1)
    assert ((opinion > 0) & (opinion < 1)).all()
