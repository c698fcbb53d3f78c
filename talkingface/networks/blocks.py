"""Blocks that several networks share: the convolution block of the encoders, the mel encoder, AdaIN."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def scaled(channels: int, width: float, least: int = 4) -> int:
    """`channels` times the width multiplier, rounded, and never below `least` unless it was so to begin with."""
    return max(min(least, channels), round(channels * width))


def full_precision(tensor: Tensor) -> AbstractContextManager:
    """Switch autocast off around operations whose result must not be rounded to 8 or 11 bits, such as coordinates."""
    return torch.autocast(tensor.device.type, enabled=False)


def being_exported() -> bool:
    """Whether torch records a graph for another runtime, which does not know every form of an operation."""
    return torch.compiler.is_exporting() if hasattr(torch.compiler, "is_exporting") else torch.onnx.is_in_onnx_export()


class FastBatchNorm2d(nn.BatchNorm2d):
    """Batch norm for convolutions of few channels in training on a CPU; the same numbers.

    The backward pass of PyTorch 2.15 for channels-last maps of fewer than 16 channels takes 10 ms where that for plain
    maps takes 0.4 ms (16 maps of 8 x 96 x 96, bf16, 2 cores).
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W) in the memory layout of the input."""
        slow = self.training and x.device.type == "cpu" and self.num_features < 16
        if slow and x.is_contiguous(memory_format=torch.channels_last):
            return super().forward(x.contiguous()).contiguous(memory_format=torch.channels_last)
        return super().forward(x)


class ConvBlock(nn.Module):
    """Convolution, batch norm, optional addition of the input, then ReLU or tanh. Keys: `conv_block.0`, `conv_block.1`.

    Args:
        dims: 1 for sequences of points, 2 for spectrograms and images.
        residual: add the input before the activation.
        tanh: end in tanh instead of ReLU.
    """

    def __init__(
        self,
        dims: int,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int | tuple[int, int],
        padding: int,
        residual: bool = False,
        tanh: bool = False,
    ) -> None:
        super().__init__()
        # Only the 2-D norm has the slow backward pass.
        conv, norm = ((nn.Conv1d, nn.BatchNorm1d), (nn.Conv2d, FastBatchNorm2d))[dims - 1]
        self.conv_block = nn.Sequential(conv(inputs, outputs, kernel, stride, padding), norm(outputs))
        self.residual = residual
        self.activation = nn.Tanh() if tanh else nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> (B, C', ...)."""
        out = self.conv_block(x)
        if self.residual:
            out = out + x
        return self.activation(out)


def conv_stack(dims: int, inputs: int, rows: Sequence[tuple]) -> nn.Sequential:
    """A Sequential of `ConvBlock`s; `rows` hold (channels, kernel, stride, padding, residual blocks that follow)."""
    blocks: list[nn.Module] = []
    for channels, kernel, stride, padding, repeats in rows:
        blocks.append(ConvBlock(dims, inputs, channels, kernel, stride, padding))
        # The residual blocks keep size and channels, as their sum requires.
        blocks += [ConvBlock(dims, channels, channels, 3, 1, 1, residual=True) for _ in range(repeats)]
        inputs = channels
    return nn.Sequential(*blocks)


class PlainBlock(nn.Module):
    """Convolution and LeakyReLU, no norm, as in discriminators. Key: `conv_block.0`."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int | tuple[int, int], padding: int) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, padding))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        return F.leaky_relu(self.conv_block(x), 0.01)


def plain_stack(inputs: int, rows: Sequence[tuple]) -> nn.Sequential:
    """A Sequential of `PlainBlock`s; `rows` hold (channels, kernel, stride, padding)."""
    blocks = []
    for outputs, kernel, stride, padding in rows:
        blocks.append(PlainBlock(inputs, outputs, kernel, stride, padding))
        inputs = outputs
    return nn.Sequential(*blocks)


class UpBlock(nn.Module):
    """Transposed 3x3 convolution, batch norm, ReLU. Keys: `conv_block.0`, `conv_block.1`."""

    def __init__(self, inputs: int, outputs: int, stride: int, padding: int, output_padding: int = 0) -> None:
        super().__init__()
        conv = nn.ConvTranspose2d(inputs, outputs, 3, stride, padding, output_padding)
        self.conv_block = nn.Sequential(conv, FastBatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        return F.relu_(self.conv_block(x))


def mel_encoder(outputs: int = 512, width: float = 1.0, tanh: bool = False, least: int = 4) -> nn.Sequential:
    """Mel windows (B, 1, 80, 16) -> (B, outputs, 1, 1); 80x16 shrinks to 27x16, 9x6, 3x3 and 1x1.

    Args:
        outputs: size of the embedding.
        width: multiplier of the inner channels.
        tanh: end in tanh (landmark generator) instead of ReLU (renderer).
        least: no inner layer gets fewer channels than this.
    """
    c = [scaled(channels, width, least) for channels in (32, 64, 128, 256)]
    rows = [(c[0], 3, 1, 1, 2), (c[1], 3, (3, 1), 1, 2), (c[2], 3, 3, 1, 2), (c[3], 3, (3, 2), 1, 1)]
    stack = conv_stack(2, 1, [*rows, (outputs, 3, 1, 0, 0)])
    stack.append(ConvBlock(2, outputs, outputs, 1, 1, 0, tanh=tanh))
    return stack


def quick_layout(maps: Tensor) -> Tensor:
    """Channels-last where that is faster: in inference on a CPU, bf16 most of all; convolutions hand it on.

    Training keeps the plain layout: the backward passes of norms take up to thirty times as long in the other one.
    """
    if torch.is_grad_enabled() or maps.device.type != "cpu":
        return maps
    return maps.contiguous(memory_format=torch.channels_last)


def instance_norm(x: Tensor) -> Tensor:
    """(B, C, H, W) -> the same with mean 0 and variance 1 in every channel of every item.

    On a CPU as group norm with a group per channel: the same numbers in a quarter of the time (256 x 64 x 64, float32;
    a twelfth in channels-last). Its backward pass is slow for channels-last maps alone.
    """
    slow = torch.is_grad_enabled() and not x.is_contiguous()
    return F.instance_norm(x) if slow or x.device.type != "cpu" else F.group_norm(x, x.shape[1])


class AdaINLayer(nn.Module):
    """Instance norm whose scale and shift come from a vector with `inputs` entries."""

    def __init__(self, channels: int, inputs: int, hidden: int = 128) -> None:
        super().__init__()
        self.mlp_shared = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU())
        self.mlp_gamma = nn.Linear(hidden, channels)
        self.mlp_beta = nn.Linear(hidden, channels)

    def forward(self, x: Tensor, vector: Tensor) -> Tensor:
        """(B, C, H, W) features and (B, inputs) vector -> (B, C, H, W)."""
        shared = self.mlp_shared(vector)
        gamma, beta = (linear(shared)[..., None, None] for linear in (self.mlp_gamma, self.mlp_beta))
        # 1 + gamma: a layer whose linear maps give zeros changes nothing.
        return instance_norm(x) * (1 + gamma) + beta


class AdaIN(nn.Module):
    """Two AdaIN layers, each followed by LeakyReLU and a 3x3 convolution."""

    def __init__(self, channels: int, inputs: int) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv_2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.adain_layer_1 = AdaINLayer(channels, inputs)
        self.adain_layer_2 = AdaINLayer(channels, inputs)

    def forward(self, x: Tensor, vector: Tensor) -> Tensor:
        """(B, C, H, W) features and (B, inputs) vector -> (B, C, H, W)."""
        x = self.conv_1(F.leaky_relu(self.adain_layer_1(x, vector), 0.2))
        return self.conv_2(F.leaky_relu(self.adain_layer_2(x, vector), 0.2))
