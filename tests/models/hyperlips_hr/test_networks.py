"""Promises of HyperLipsHR's networks beside the published numbers."""

from __future__ import annotations

import pytest
import torch

from talkingface.models.hyperlips_hr.networks import FaceDiscriminator, HRDecoder


@pytest.mark.parametrize(("scale", "parameters"), [(1, 133_443), (2, 170_499), (4, 281_667)])
def test_the_decoder_enlarges_by_its_scale(scale, parameters):
    decoder = HRDecoder(scale)
    assert sum(p.numel() for p in decoder.parameters()) == parameters
    assert decoder(torch.rand(1, 6, 32, 32)).shape == (1, 3, 32 * scale, 32 * scale)


def test_another_scale_is_refused():
    with pytest.raises(ValueError, match="one of 1, 2, 4, got 3"):
        HRDecoder(3)


def test_the_discriminators_probability_is_the_sigmoid_of_its_logit():
    discriminator = FaceDiscriminator(0.25)
    faces = torch.rand(3, 3, 48, 48)
    torch.testing.assert_close(discriminator(faces), discriminator.logits(faces).sigmoid())
