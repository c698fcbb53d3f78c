"""AdaAT: every channel of a map is turned, scaled and shifted as a whole.

Z. Zhang et al., "AdaAT: Adaptive Affine Transformation", used by DINet, arXiv:2303.03988, section 3.2; formulas from
the official implementation. Keys equal those of the published `adaAT`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from talkingface.networks.blocks import full_precision
from talkingface.networks.dubbing.sampling import begin_near_rest, centres, sample_channels

PI = 3.14159
"""As published."""


class AdaAT(nn.Module):
    """Affine maps from a code, and their use. Keys: `commn_linear.0`, `scale.0`, `rotation.0`, `translation.0`.

    Args:
        inputs: size of the code.
        channels: of the maps.
        blended: places run from -1 to 1 in x, y and channels, while they are read between the outer edges of the
            outermost pixels and channels. So the maps grow a little, each channel is a blend of two, and the first and
            the last are halved. The published weights need it.
        at_rest: begin close to the identity; published: no.
    """

    def __init__(self, inputs: int, channels: int, blended: bool, at_rest: bool = False) -> None:
        super().__init__()
        self.commn_linear = nn.Sequential(nn.Linear(inputs, inputs), nn.ReLU())
        self.scale = nn.Sequential(nn.Linear(inputs, channels), nn.Sigmoid())
        self.rotation = nn.Sequential(nn.Linear(inputs, channels), nn.Tanh())
        self.translation = nn.Sequential(nn.Linear(inputs, 2 * channels), nn.Tanh())
        self.blended = blended
        if at_rest:
            begin_near_rest(self.scale, self.rotation, self.translation)

    def forward(self, maps: Tensor, code: Tensor) -> Tensor:
        """(B, C, H, W) maps and (B, inputs) code -> (B, C, H, W), zeros where a channel leaves its map.

        In float32 whatever the precision around it.
        """
        with full_precision(maps):
            source = blended_channels(maps.float()) if self.blended else maps.float()
            return sample_channels(source, self.field(code.float(), *maps.shape[-2:])).to(maps.dtype)

    def field(self, code: Tensor, height: int, width: int) -> Tensor:
        """Where every pixel of the output is sampled, (B, C, H, W, 2), x and y."""
        hidden = self.commn_linear(code)
        scale, angle = 2 * self.scale(hidden), PI * self.rotation(hidden)
        shift_x, shift_y = self.translation(hidden).unflatten(1, (-1, 2))[..., None, None].unbind(2)
        along, across = ((scale * part)[..., None, None] for part in (angle.cos(), angle.sin()))
        x, y = self._places(width, code), self._places(height, code)[:, None]
        return torch.stack([along * x - across * y + shift_x, across * x + along * y + shift_y], dim=-1)

    def _places(self, size: int, like: Tensor) -> Tensor:
        if not self.blended:
            return centres(size, like)
        return torch.linspace(-1, 1, size, device=like.device, dtype=like.dtype)


def blended_channels(maps: Tensor) -> Tensor:
    """(B, C, H, W) read at C places that stretch from half a channel before the first to half one behind the last.

    The published code gets this from a sampling in three dimensions; beyond both ends there are zeros.
    """
    channels = maps.shape[1]
    places = torch.linspace(-0.5, channels - 0.5, channels, device=maps.device, dtype=maps.dtype)
    low = places.floor()
    part = (places - low)[:, None, None]
    padded, first = F.pad(maps, (0, 0, 0, 0, 1, 1)), low.long() + 1
    # The last place lies between the last channel and the zeros behind it.
    return padded[:, first] * (1 - part) + padded[:, first + 1] * part
