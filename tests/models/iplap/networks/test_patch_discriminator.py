from __future__ import annotations

import torch

from talkingface.models.iplap.networks.patch_discriminator import PatchDiscriminator
from talkingface.networks.losses import split_maps


@torch.no_grad()
def test_one_pass_over_two_batches_equals_two_passes():
    torch.manual_seed(0)
    network = PatchDiscriminator(channels=8)
    fake, real = torch.rand(2, 2, 3, 32, 32)
    halves = split_maps(network(torch.cat([fake, real])))
    for together, alone in zip(halves, (network(fake), network(real))):
        for scale, other in zip(together, alone):
            for a, b in zip(scale, other):
                torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


@torch.no_grad()
def test_full_resolution_comes_first():
    maps = PatchDiscriminator(channels=4, scales=3)(torch.rand(1, 3, 64, 64))
    assert [scale[0].shape[-1] for scale in maps] == [33, 17, 9]
    assert all(len(scale) == 5 and scale[-1].shape[1] == 1 for scale in maps)
