"""Inception v3 as the Frechet Inception distance needs it: torchvision's network with three changes.

Paper: M. Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium", NeurIPS
2017, arXiv:1706.08500. The weights are TensorFlow's of 2015-12-05, whose branches pool otherwise than torchvision's:
averages leave the padding out, and the last block takes the maximum. Keys equal those of the published file, strictly.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.inception import Inception3, InceptionA, InceptionC, InceptionE

from talkingface.weights.checkpoint import load_state_file

SIDE = 299  # pixels, input of the network
CLASSES = 1008  # rows of the published classifier, which nobody asks here

# Layers up to each of the four depths whose features are compared; 2048 features come from the last.
_DEPTHS = (
    ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "maxpool1"),
    ("Conv2d_3b_1x1", "Conv2d_4a_3x3", "maxpool2"),
    ("Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"),
    ("Mixed_7a", "Mixed_7b", "Mixed_7c"),
)


def to_side(images: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, 3, 299, 299), bilinear without smoothing, as published."""
    return F.interpolate(images, size=(SIDE, SIDE), mode="bilinear", align_corners=False)


def _inner_average(x: Tensor) -> Tensor:
    """3x3 mean over what lies inside the map."""
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


class _BlockA(InceptionA):
    def forward(self, x: Tensor) -> Tensor:
        small = self.branch5x5_2(self.branch5x5_1(x))
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), small, double, self.branch_pool(_inner_average(x))], dim=1)


class _BlockC(InceptionC):
    def forward(self, x: Tensor) -> Tensor:
        single = double = x
        for number in range(1, 4):
            single = getattr(self, f"branch7x7_{number}")(single)
        for number in range(1, 6):
            double = getattr(self, f"branch7x7dbl_{number}")(double)
        return torch.cat([self.branch1x1(x), single, double, self.branch_pool(_inner_average(x))], dim=1)


class _BlockE(InceptionE):
    pool = staticmethod(_inner_average)

    def forward(self, x: Tensor) -> Tensor:
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        halves = [self.branch3x3_2a(single), self.branch3x3_2b(single)]
        halves += [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)]
        return torch.cat([self.branch1x1(x), *halves, self.branch_pool(self.pool(x))], dim=1)


class _LastBlock(_BlockE):
    @staticmethod
    def pool(x: Tensor) -> Tensor:
        """The published graph takes the maximum here."""
        return F.max_pool2d(x, 3, stride=1, padding=1)


class FIDInception(Inception3):
    """2048 features of a picture, in eval mode without gradients."""

    num_features = 2048

    def __init__(self) -> None:
        # torchvision's own initialisation is slow, and every weight comes from the file.
        super().__init__(num_classes=CLASSES, aux_logits=False, transform_input=False, init_weights=False)
        for name, inputs, features in (("Mixed_5b", 192, 32), ("Mixed_5c", 256, 64), ("Mixed_5d", 288, 64)):
            setattr(self, name, _BlockA(inputs, pool_features=features))
        for name, channels in (("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)):
            setattr(self, name, _BlockC(768, channels_7x7=channels))
        self.Mixed_7b, self.Mixed_7c = _BlockE(1280), _LastBlock(2048)
        self.eval().requires_grad_(False)

    def blocks(self, images: Tensor) -> list[Tensor]:
        """Feature maps of four depths, from pictures (B, 3, H, W) RGB in [0, 1] of any size.

        Returns:
            (B, 64, 73, 73), (B, 192, 35, 35), (B, 768, 17, 17) and the pooled features (B, 2048, 1, 1).
        """
        # The network was trained on [-1, 1].
        x = 2 * to_side(images) - 1
        maps = []
        for names in _DEPTHS:
            for name in names:
                x = getattr(self, name)(x)
            maps.append(x)
        return [*maps[:3], F.adaptive_avg_pool2d(maps[3], 1)]

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in [0, 1] -> (B, 2048) float32."""
        return self.blocks(images)[-1].flatten(1).float()

    def load(self, path: str | Path) -> FIDInception:
        """Fill from the published `pt_inception-2015-12-05-6726825d.pth`.

        Raises:
            CheckpointError: the file is missing, unreadable, or of another network.
        """
        load_state_file(self, path, what="the FID Inception")
        return self
