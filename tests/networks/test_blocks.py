"""Blocks that several networks share."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from talkingface.networks.blocks import FastBatchNorm2d


@pytest.mark.parametrize("channels", [4, 8, 16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_fast_batch_norm_gives_the_numbers_of_the_plain_one_in_the_layout_of_its_input(channels, layout):
    torch.manual_seed(0)
    fast, plain = FastBatchNorm2d(channels), nn.BatchNorm2d(channels)
    x = torch.randn(3, channels, 5, 7).contiguous(memory_format=layout)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    out, expected = fast(ours), plain(theirs)
    assert out.is_contiguous(memory_format=layout)
    torch.testing.assert_close(out, expected)
    weights = torch.randn_like(out)
    (out * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    torch.testing.assert_close(fast.weight.grad, plain.weight.grad)
    torch.testing.assert_close(fast.running_var, plain.running_var)
    torch.testing.assert_close(fast.eval()(x), plain.eval()(x))
