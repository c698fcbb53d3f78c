"""Multi-scale patch discriminator of pix2pixHD, as IPLAP and HyperLips train against.

Paper: T.-C. Wang et al., "High-Resolution Image Synthesis and Semantic Manipulation with Conditional GANs", CVPR 2018.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class PatchDiscriminator(nn.Module):
    """Patch scores and feature maps of an image at several resolutions.

    Args:
        inputs: channels of the image.
        channels: channels after the first layer.
        layers: layers with stride 2.
        scales: resolutions, each half the one before.
    """

    def __init__(self, inputs: int = 3, channels: int = 64, layers: int = 3, scales: int = 2) -> None:
        super().__init__()
        self.scales = scales
        self.depth = layers + 2
        for scale in range(scales):
            for index, layer in enumerate(_layers(inputs, channels, layers)):
                self.add_module(f"scale{scale}_layer{index}", layer)
        self.apply(_initialise)

    def forward(self, image: Tensor) -> list[list[Tensor]]:
        """(B, C, H, W) -> per scale, full resolution first, the feature maps; the last is the score (B, 1, h, w).

        Kept: the full resolution uses the modules with the highest scale number, as in pix2pixHD.
        """
        results = []
        for scale in reversed(range(self.scales)):
            maps, x = [], image
            for index in range(self.depth):
                x = self.get_submodule(f"scale{scale}_layer{index}")(x)
                maps.append(x)
            results.append(maps)
            if scale:
                image = F.avg_pool2d(image, 3, stride=2, padding=1, count_include_pad=False)
        return results


def _layers(inputs: int, channels: int, count: int) -> list[nn.Sequential]:
    """4x4 convolutions with padding 2, instance norm without parameters in all but the first and the last."""
    layers = [nn.Sequential(nn.Conv2d(inputs, channels, 4, stride=2, padding=2), nn.LeakyReLU(0.2))]
    for index in range(1, count + 1):
        wider = min(2 * channels, 512)
        conv = nn.Conv2d(channels, wider, 4, stride=1 if index == count else 2, padding=2)
        layers.append(nn.Sequential(conv, nn.InstanceNorm2d(wider), nn.LeakyReLU(0.2)))
        channels = wider
    return [*layers, nn.Sequential(nn.Conv2d(channels, 1, 4, stride=1, padding=2))]


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
