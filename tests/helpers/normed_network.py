"""A small network with batch norms of all kinds, the same in every process."""

from __future__ import annotations

import torch
from torch import nn

from talkingface.networks.blocks import FastBatchNorm2d


def normed_network() -> nn.Sequential:
    """(B, 3, 9, 8) -> (B, 5, 20); averages by momentum and over all batches, with and without weights."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), FastBatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5, momentum=None)]
    return nn.Sequential(*layers, nn.Flatten(2), nn.BatchNorm1d(5, affine=False))
