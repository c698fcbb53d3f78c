"""Image translation: a drawing of landmarks and a portrait -> the portrait with its face moved there.

Paper: Y. Zhou et al., "MakeItTalk: Speaker-Aware Talking-Head Animation", ACM TOG 39(6) 221, 2020, section 4.4, after
E. Zakharov et al., ICCV 2019. Keys equal those of the published `ckpt_116_i2i_comb.pth`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from talkingface.networks.blocks import quick_layout


class TranslationUNet(nn.Module):
    """U-Net of residual blocks.

    Args:
        inputs: channels of the input: three of the drawing, three of the portrait.
        outputs: channels of the output.
        num_downs: times that the picture is halved; its sides must be multiples of 2 ** num_downs.
        width: channels of the first level; they double from level to level, up to eight times as many.
    """

    def __init__(self, inputs: int = 6, outputs: int = 3, num_downs: int = 6, width: int = 64) -> None:
        super().__init__()
        if num_downs < 2:
            raise ValueError(f"num_downs must be at least 2, got {num_downs}")
        self.multiple = 2**num_downs
        channels = [width * min(8, 2**level) for level in range(num_downs)]
        block = _Level.innermost(channels[-2], channels[-1])
        for outer, inner in zip(channels[-3::-1], channels[-2:0:-1], strict=True):
            block = _Level.middle(outer, inner, block)
        self.model = _Level.outermost(inputs, channels[0], block, outputs)

    @torch.no_grad()
    def add_nothing_at_start(self) -> None:
        """Zero the last layer, so that training begins with the picture that the output is added to."""
        self.model.model[-1].weight.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Drawing and portrait (B, 6, H, W), BGR in [0, 1] -> (B, 3, H, W) before `picture`.

        Raises:
            ValueError: a side is no multiple of 2 ** num_downs.
        """
        if x.shape[-1] % self.multiple or x.shape[-2] % self.multiple:
            raise ValueError(f"sides must be multiples of {self.multiple}, got {x.shape[-2]} x {x.shape[-1]}")
        return self.model(quick_layout(x))


def picture(raw: Tensor) -> Tensor:
    """What the network means by its output (B, 3, H, W): BGR in [0, 1]. Published form: tanh, cut off at zero."""
    return raw.tanh().clamp(min=0)


class _Residual(nn.Module):
    """Two 3x3 convolutions beside the identity. Key: `block`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            _conv(channels, channels), nn.BatchNorm2d(channels), nn.ReLU(inplace=True),
            _conv(channels, channels), nn.BatchNorm2d(channels),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return (x + self.block(x)).relu()


class _Level(nn.Module):
    """One level: halve, refine, all levels below, enlarge, refine. Key: `model`."""

    def __init__(self, modules: list[nn.Module], skip: bool = True) -> None:
        super().__init__()
        self.model = nn.Sequential(*modules)
        self.skip = skip

    @classmethod
    def outermost(cls, inputs: int, inner: int, below: _Level, outputs: int) -> _Level:
        """The first level: it ends with a plain convolution."""
        down = [_conv(inputs, inner, 2), nn.ReLU(), *_refine(inner)]
        return cls([*down, below, _twice(), _conv(2 * inner, outputs)], skip=False)

    @classmethod
    def middle(cls, outer: int, inner: int, below: _Level) -> _Level:
        """A level between."""
        down = [_conv(outer, inner, 2), nn.BatchNorm2d(inner), nn.ReLU(), *_refine(inner)]
        return cls([*down, below, *_up(2 * inner, outer)])

    @classmethod
    def innermost(cls, outer: int, inner: int) -> _Level:
        """The last level: nothing is below it, and nothing normalises the few pixels that it sees."""
        return cls([_conv(outer, inner, 2), nn.ReLU(), *_refine(inner), *_up(inner, outer)])

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 2C, H, W), the input first; without a skip (B, C', H, W)."""
        return torch.cat([x, self.model(x)], dim=1) if self.skip else self.model(x)


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


def _twice() -> nn.Upsample:
    return nn.Upsample(scale_factor=2, mode="nearest")


def _refine(channels: int) -> list[nn.Module]:
    return [_Residual(channels), _Residual(channels)]


def _up(inputs: int, outputs: int) -> list[nn.Module]:
    return [_twice(), _conv(inputs, outputs), nn.BatchNorm2d(outputs), nn.ReLU(), *_refine(outputs)]
