"""The encoder of faces and sounds: MobileNetV3-Large with a dilated last stage, and the LRASPP head on top of it.

Papers: A. Howard et al., "Searching for MobileNetV3", ICCV 2019, arXiv:1905.02244; the form with four taps and a
dilated last stage is that of S. Lin et al., "Robust High-Resolution Video Matting", WACV 2022, arXiv:2108.11515.
Keys equal those of the published HyperLips weights.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from talkingface.networks.blocks import scaled

TAPS = (1, 3, 6, 16)
"""Indices into `features` behind which a map is kept: at 1/2, 1/4, 1/8 and 1/16 of the input."""

TAP_CHANNELS = (16, 24, 40, 960)
"""Channels of the maps at `TAPS` at width 1."""


class _Row(NamedTuple):
    """One inverted residual of the published table."""

    kernel: int
    expand: int
    outputs: int
    squeeze: bool
    hardswish: bool
    stride: int
    dilation: int


_ROWS = (
    _Row(3, 16, 16, False, False, 1, 1),
    _Row(3, 64, 24, False, False, 2, 1),
    _Row(3, 72, 24, False, False, 1, 1),
    _Row(5, 72, 40, True, False, 2, 1),
    _Row(5, 120, 40, True, False, 1, 1),
    _Row(5, 120, 40, True, False, 1, 1),
    _Row(3, 240, 80, False, True, 2, 1),
    _Row(3, 200, 80, False, True, 1, 1),
    _Row(3, 184, 80, False, True, 1, 1),
    _Row(3, 184, 80, False, True, 1, 1),
    _Row(3, 480, 112, True, True, 1, 1),
    _Row(3, 672, 112, True, True, 1, 1),
    # A stride of 2 by the table; dilated instead, so that the map stays at 1/16.
    _Row(5, 672, 160, True, True, 2, 2),
    _Row(5, 960, 160, True, True, 1, 2),
    _Row(5, 960, 160, True, True, 1, 2),
)


class MobileNetV3(nn.Module):
    """Maps at four resolutions of a picture or a spectrogram.

    Args:
        inputs: channels of the input.
        width: multiplier of all channels.
        least: no layer gets fewer channels than this.
    """

    def __init__(self, inputs: int, width: float = 1.0, least: int = 8) -> None:
        super().__init__()
        first = scaled(16, width, least)
        # Kept: the first norm has other constants than the rest, as the published first layer was put in afterwards.
        blocks: list[nn.Module] = [
            nn.Sequential(
                nn.Conv2d(inputs, first, 3, 2, 1, bias=False),
                nn.BatchNorm2d(first),
                nn.Hardswish(inplace=True),
            )
        ]
        channels, published = first, 16
        for row in _ROWS:
            outputs, expand = scaled(row.outputs, width, least), scaled(row.expand, width, least)
            blocks.append(InvertedResidual(channels, expand, outputs, row, published))
            channels, published = outputs, row.outputs
        last = scaled(TAP_CHANNELS[-1], width, least)
        blocks.append(nn.Sequential(*_conv(channels, last, 1), nn.Hardswish(inplace=True)))
        self.features = nn.Sequential(*blocks)
        self.channels = tuple(scaled(tap, width, least) for tap in TAP_CHANNELS)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, inputs, H, W) -> four maps (B, C, H/2, W/2) to (B, C, H/16, W/16)."""
        maps = []
        for index, block in enumerate(self.features):
            x = block(x)
            if index in TAPS:
                maps.append(x)
        return maps


class InvertedResidual(nn.Module):
    """Expand, convolve every channel by itself, weigh the channels, project. Keys: `block.j`, counting what is there.

    Args:
        inputs: channels that come in.
        expand: channels of the depthwise convolution.
        outputs: channels that go out.
        row: the published row.
        published: channels that come in at width 1. They decide about the layers, so that a narrow copy has the same.
    """

    def __init__(self, inputs: int, expand: int, outputs: int, row: _Row, published: int) -> None:
        super().__init__()
        activation = nn.Hardswish if row.hardswish else nn.ReLU
        parts: list[nn.Module] = []
        if row.expand != published:
            parts.append(nn.Sequential(*_conv(inputs, expand, 1), activation(inplace=True)))
        else:
            expand = inputs
        stride = 1 if row.dilation > 1 else row.stride
        depthwise = _conv(expand, expand, row.kernel, stride, row.dilation, groups=expand)
        parts.append(nn.Sequential(*depthwise, activation(inplace=True)))
        if row.squeeze:
            parts.append(SqueezeExcitation(expand, _divisible(expand / 4)))
        parts.append(nn.Sequential(*_conv(expand, outputs, 1)))
        self.block = nn.Sequential(*parts)
        # The table's stride decides, not the one in use: the dilated block that should halve the map adds no input.
        self.residual = row.stride == 1 and published == row.outputs

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        out = self.block(x)
        return x + out if self.residual else out


class SqueezeExcitation(nn.Module):
    """Weighs channels by what the whole map holds. Keys: `fc1`, `fc2`."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        gate = self.fc2(nn.functional.relu(self.fc1(x.mean(dim=(2, 3), keepdim=True))))
        return x * nn.functional.hardsigmoid(gate)


class LRASPP(nn.Module):
    """Projects a map, and weighs its channels by the map's mean. Keys: `aspp1`, `aspp2`."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.aspp1 = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(True))
        self.aspp2 = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(inputs, outputs, 1, bias=False), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H, W)."""
        return self.aspp1(x) * self.aspp2(x)


def _conv(
    inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1, groups: int = 1
) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    padding = (kernel - 1) // 2 * dilation
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias=False)
    return convolution, nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01)


def _divisible(channels: float, by: int = 8) -> int:
    """The multiple of `by` that is nearest to `channels`, one more where that takes away over a tenth."""
    nearest = max(by, int(channels + by / 2) // by * by)
    return nearest + by if nearest < 0.9 * channels else nearest
