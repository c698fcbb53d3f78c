"""BiSeNet, which parses a face into 19 classes: skin, brows, eyes, lips, hair and so on.

Paper: C. Yu et al., "BiSeNet: Bilateral Segmentation Network for Real-time Semantic Segmentation", ECCV 2018,
arXiv:1808.00897, in the form trained on CelebAMask-HQ. Keys equal those of the public weights (`79999_iter.pth`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSES = (
    *("background", "skin", "left_brow", "right_brow", "left_eye", "right_eye", "glasses", "left_ear", "right_ear"),
    *("earring", "nose", "mouth", "upper_lip", "lower_lip", "neck", "necklace", "cloth", "hair", "hat"),
)

SIDE = 512
"""Side of the pictures that the public weights were trained on."""


class BiSeNet(nn.Module):
    """Scores of every pixel for each of the classes.

    Args:
        classes: number of classes.
    """

    def __init__(self, classes: int = len(CLASSES)) -> None:
        super().__init__()
        self.cp = _ContextPath()
        self.ffm = _Fusion(256, 256)
        self.conv_out = _Head(256, 256, classes)
        self.conv_out16 = _Head(128, 64, classes)
        self.conv_out32 = _Head(128, 64, classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W), RGB normalised as ImageNet's, sides multiples of 32 -> (B, classes, H, W) scores."""
        feat8, context8, _ = self.cp(images)
        return _as_large(self.conv_out(self.ffm(feat8, context8)), images)

    def all_heads(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores of the first head and of the two that only training needs, each (B, classes, H, W)."""
        feat8, context8, context16 = self.cp(images)
        heads = (self.conv_out(self.ffm(feat8, context8)), self.conv_out16(context8), self.conv_out32(context16))
        return tuple(_as_large(head, images) for head in heads)


class _ConvNorm(nn.Module):
    """Convolution, norm, ReLU. Keys: `conv`, `bn`."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu_(self.bn(self.conv(x)))


class _Head(nn.Module):
    """Features -> scores."""

    def __init__(self, inputs: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.conv = _ConvNorm(inputs, hidden)
        self.conv_out = nn.Conv2d(hidden, classes, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_out(self.conv(x))


class _Refinement(nn.Module):
    """Attention refinement: channels weighed by their mean."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = _ConvNorm(inputs, outputs)
        self.conv_atten = nn.Conv2d(outputs, outputs, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x * self.bn_atten(self.conv_atten(_mean(x))).sigmoid()


class _Fusion(nn.Module):
    """Feature fusion: spatial detail and context, weighed by their mean."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convblk = _ConvNorm(inputs, outputs, 1)
        self.conv1 = nn.Conv2d(outputs, outputs // 4, 1, bias=False)
        self.conv2 = nn.Conv2d(outputs // 4, outputs, 1, bias=False)

    def forward(self, spatial: Tensor, context: Tensor) -> Tensor:
        x = self.convblk(torch.cat([spatial, context], dim=1))
        return x + x * self.conv2(F.relu_(self.conv1(_mean(x)))).sigmoid()


class _ContextPath(nn.Module):
    """Trunk with its maps refined from the smallest up."""

    def __init__(self) -> None:
        super().__init__()
        self.resnet = _ResNet18()
        self.arm16 = _Refinement(256, 128)
        self.arm32 = _Refinement(512, 128)
        self.conv_head32 = _ConvNorm(128, 128)
        self.conv_head16 = _ConvNorm(128, 128)
        self.conv_avg = _ConvNorm(512, 128, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Maps at 1/8: of the trunk, refined; and the refined map at 1/16, which is as large as the one at 1/8."""
        feat8, feat16, feat32 = self.resnet(images)
        x32 = self.arm32(feat32) + _nearest(self.conv_avg(_mean(feat32)), feat32)
        context16 = self.conv_head32(_nearest(x32, feat16))
        context8 = self.conv_head16(_nearest(self.arm16(feat16) + context16, feat8))
        return feat8, context8, context16


class _ResNet18(nn.Module):
    """K. He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, without its classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(_Residual(64, 64), _Residual(64, 64))
        self.layer2 = nn.Sequential(_Residual(64, 128, 2), _Residual(128, 128))
        self.layer3 = nn.Sequential(_Residual(128, 256, 2), _Residual(256, 256))
        self.layer4 = nn.Sequential(_Residual(256, 512, 2), _Residual(512, 512))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 3, H, W) -> maps at 1/8, 1/16 and 1/32."""
        x = F.max_pool2d(F.relu_(self.bn1(self.conv1(x))), 3, 2, 1)
        feat8 = self.layer2(self.layer1(x))
        feat16 = self.layer3(feat8)
        return feat8, feat16, self.layer4(feat16)


class _Residual(nn.Module):
    """Two 3x3 convolutions and the input, which a 1x1 convolution fits where sizes differ."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        fits = stride == 1 and inputs == outputs
        downsample = (nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.downsample = None if fits else nn.Sequential(*downsample)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu_(self.bn1(self.conv1(x)))))
        return F.relu_(out + (x if self.downsample is None else self.downsample(x)))


def _mean(x: Tensor) -> Tensor:
    return x.mean(dim=(2, 3), keepdim=True)


def _nearest(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="nearest")


def _as_large(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=True)
