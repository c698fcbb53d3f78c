"""Blocks of the networks of DINet and LawDNet: convolutions with and without a norm, in one and two dimensions.

Key names (`conv`, `norm`, `conv1`, `norm1`, ...) are those of the published weights.
"""

from __future__ import annotations

import math
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

Norm = Literal["none", "batch", "group"]

GROUPS, FEWEST = 8, 4
"""Groups of a group norm, as far as they divide the channels, and channels in a group: one alone would norm to 0."""

_CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d}
_BATCH_NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}


def norm_layer(norm: Norm, dims: int, channels: int) -> nn.Module:
    """A norm over maps of `channels`; `none` changes nothing and has no weights."""
    if norm == "batch":
        return _BATCH_NORMS[dims](channels)
    if norm == "group":
        return nn.GroupNorm(math.gcd(GROUPS, max(1, channels // FEWEST)), channels)
    if norm == "none":
        return nn.Identity()
    raise ValueError(f"a norm must be none, batch or group, got {norm!r}")


class Same(nn.Module):
    """Convolution that keeps the size, norm, ReLU. Keys: `conv`, `norm`.

    Args:
        dims: 1 for sequences, 2 for pictures.
        inputs: channels going in.
        outputs: channels coming out.
        kernel: odd side of the kernel.
        norm: between convolution and ReLU.
    """

    stride = 1

    def __init__(self, dims: int, inputs: int, outputs: int, kernel: int = 3, norm: Norm = "none") -> None:
        super().__init__()
        self.conv = _CONVOLUTIONS[dims](inputs, outputs, kernel, self.stride, kernel // 2)
        self.norm = norm_layer(norm, dims, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> (B, C', ...)."""
        return F.relu(self.norm(self.conv(x)))


class Down(Same):
    """The same with stride 2: half the size, rounded up."""

    stride = 2


class Up(Same):
    """Enlargement to twice the size by the nearest pixel, then as `Same`."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', 2H, 2W)."""
        return super().forward(F.interpolate(x, scale_factor=2, mode="nearest"))


class Residual(nn.Module):
    """Two 3x3 convolutions added to their input; with a norm, the norms stand before the ReLUs.

    Keys: `conv1`, `conv2`, and with a norm `norm1`, `norm2`.

    Args:
        dims: 1 for sequences, 2 for pictures.
        channels: of input and output.
        norm: one before each ReLU.
        leading: begin with a ReLU. LawDNet as published does not: conv, ReLU, conv.
        idle_norms: own two batch norms that nothing applies, as the published one-dimensional blocks of LawDNet do.
    """

    def __init__(
        self, dims: int, channels: int, norm: Norm = "none", leading: bool = True, idle_norms: bool = False
    ) -> None:
        super().__init__()
        self.conv1 = _CONVOLUTIONS[dims](channels, channels, 3, padding=1)
        self.conv2 = _CONVOLUTIONS[dims](channels, channels, 3, padding=1)
        kind: Norm = "batch" if idle_norms else norm
        self.norm1 = norm_layer(kind, dims, channels)
        self.norm2 = norm_layer(kind, dims, channels)
        self.leading, self.idle = leading, idle_norms

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> the same shape."""
        inner = x if self.idle else self.norm1(x)
        inner = self.conv1(F.relu(inner) if self.leading else inner)
        return x + self.conv2(F.relu(inner if self.idle else self.norm2(inner)))
