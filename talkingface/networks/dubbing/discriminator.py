"""The discriminator of DINet and LawDNet, for single frames and for five frames of a clip on the channels.

Paper: DINet, arXiv:2303.03988, section 3.3; layer sizes from the official implementation. No norm, no sigmoid: it is
trained with squared errors.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from talkingface.networks.blocks import scaled

FRAMES = 5
"""Frames of one clip that the clip discriminator sees together."""


def least_side(blocks: int) -> int:
    """The smallest side in pixels that leaves one pixel: 25 for 3 blocks, 53 for 4."""
    side = 1
    for block in range(blocks):
        side = (side if block == 0 else 2 * side) + 3
    return side


class _Block(nn.Module):
    """4x4 convolution without padding, LeakyReLU, and mean of 2x2 where wanted. Key: `conv`."""

    def __init__(self, inputs: int, outputs: int, pool: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 4)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', (H-3)/2, (W-3)/2), or (B, C', H-3, W-3)."""
        x = F.leaky_relu(self.conv(x), 0.2)
        return F.avg_pool2d(x, 2) if self.pool else x


class DubbingDiscriminator(nn.Module):
    """Scores patches of pictures: 1 for true ones, 0 for generated ones. Keys: `down_blocks.i.conv`, `conv`.

    Args:
        inputs: channels, 3 for a frame and 15 for the frames of a clip.
        blocks: 4 is published; small crops need 3, see `least_side`.
        width: multiplier of all channels.
    """

    def __init__(self, inputs: int = 3, blocks: int = 4, width: float = 1.0) -> None:
        super().__init__()
        if blocks not in (3, 4):
            raise ValueError(f"a discriminator must have 3 or 4 blocks, got {blocks}")
        channels = [inputs, *(scaled(min(256, 128 * 2**block), width) for block in range(blocks))]
        pairs = zip(channels[:-1], channels[1:])
        # All but the last block halve the size.
        self.down_blocks = nn.ModuleList(_Block(*pair, pool=block < blocks - 1) for block, pair in enumerate(pairs))
        self.conv = nn.Conv2d(channels[-1], 1, 1)
        self.least = least_side(blocks)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """(B, C, H, W) RGB in [0, 1] -> the map of every block, and last the scores (B, 1, h, w).

        Raises:
            ValueError: the pictures are too small.
        """
        height, width = pictures.shape[-2:]
        if min(height, width) < self.least:
            blocks = len(self.down_blocks)
            raise ValueError(
                f"a discriminator of {blocks} blocks needs sides of {self.least} pixels, got {width}x{height};"
                f" take {'3 blocks or ' if blocks > 3 else ''}a larger mouth"
            )
        maps = []
        for block in self.down_blocks:
            pictures = block(pictures)
            maps.append(pictures)
        return [*maps, self.conv(pictures)]


def clip_channels(frames: Tensor, clips: int) -> Tensor:
    """Frames of several clips, the first frames of all clips first, (T*B, C, H, W) -> (B, T*C, H, W)."""
    return frames.unflatten(0, (-1, clips)).transpose(0, 1).flatten(1, 2)
