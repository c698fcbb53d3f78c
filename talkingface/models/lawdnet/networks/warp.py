"""Local affine warping: every channel of a map is deformed by several similarities, each strongest at its key point.

Paper: LawDNet, arXiv:2409.09326, section 3.2; formulas from the official implementation. Keys equal those of the
published `lawLayer_list.i`.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from talkingface.models.lawdnet.networks.displacement import displacement
from talkingface.models.lawdnet.networks.quirks import Quirks
from talkingface.networks.blocks import full_precision
from talkingface.networks.dubbing.sampling import begin_near_rest, centres, sample_channels

GRID = 60
"""Points per axis at which the field is computed before it is resized to the map."""

SMALLEST_RADIUS = 1e-3
"""Half-precision weights can give a radius of 0, and a gradient of no value."""


class LocalAffineWarp(nn.Module):
    """Parameters of a warp from a code, and the warp.

    Keys: `commn_linear.0`, `kpoints_normalized_layer.0`, `similarity_params_layer.0`, `radius_layer.0`.

    Args:
        inputs: size of the code.
        channels: of the maps.
        quirks: of the published field.
        keypoints: per channel.
        grid: points per axis of the field, or (rows, columns).
        recompute: compute the field anew in the backward pass instead of keeping it: a third more time for less than
            half of the memory.
        at_rest: begin close to the identity; published: no.
    """

    def __init__(
        self,
        inputs: int,
        channels: int,
        quirks: Quirks,
        keypoints: int = 5,
        grid: int | tuple[int, int] = GRID,
        recompute: bool = False,
        at_rest: bool = False,
    ) -> None:
        super().__init__()
        each = keypoints * channels
        self.commn_linear = nn.Sequential(nn.Linear(inputs, inputs), nn.ReLU())
        self.kpoints_normalized_layer = nn.Sequential(nn.Linear(inputs, 2 * each), nn.Tanh())
        self.similarity_params_layer = nn.Sequential(nn.Linear(inputs, 4 * each), nn.Tanh())
        self.radius_layer = nn.Sequential(nn.Linear(inputs, each), nn.Sigmoid())
        self.keypoints, self.channels, self.quirks, self.recompute = keypoints, channels, quirks, recompute
        self.grid = (grid, grid) if isinstance(grid, int) else tuple(grid)
        if at_rest:
            begin_near_rest(self.similarity_params_layer)

    def forward(self, maps: Tensor, code: Tensor) -> Tensor:
        """(B, C, H, W) maps and (B, inputs) code -> (B, C, H, W), zeros where the field leaves the map.

        In float32 whatever the precision around it: coordinates rounded to 8 or 11 bits miss their pixel.
        """
        with full_precision(maps):
            heads = self.heads(code.float())
            recompute = self.recompute and torch.is_grad_enabled()
            warp = partial(checkpoint, self._warp, use_reentrant=False) if recompute else self._warp
            return warp(maps.float(), *heads).to(maps.dtype)

    def heads(self, code: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Key points (B, N, C, 2) as x, y in [-1, 1], radii (B, N, C) in (0, 1), similarities (B, N, C, 4) in [-1, 1].

        A similarity is a change of scale, a turn in units of pi, and a shift in x and y.
        """
        hidden = self.commn_linear(code)
        shape = (self.keypoints, self.channels)
        return (
            self.kpoints_normalized_layer(hidden).unflatten(1, (*shape, 2)),
            self.radius_layer(hidden).unflatten(1, shape),
            self.similarity_params_layer(hidden).unflatten(1, (*shape, 4)),
        )

    def field(self, height: int, width: int, keypoints: Tensor, radii: Tensor, similarities: Tensor) -> Tensor:
        """Where every pixel of an output (height, width) is sampled, for what `heads` gives.

        Returns:
            (B, C, height, width, 2), x and y in [-1, 1] between the outer edges of the outermost pixels.
        """
        quirks = self.quirks
        sides = zip(self.grid, (height, width))
        rows, columns = self.grid if quirks.whole_grid else (min(side, size) for side, size in sides)
        x, y = centres(columns, keypoints), centres(rows, keypoints)[:, None]
        dx, dy = displacement(x, y, keypoints, radii.clamp_min(SMALLEST_RADIUS), similarities)
        if quirks.clamped_field:
            dx, dy = dx + x, dy + y
        field = _resized(_planes(dx, dy, quirks.scrambled_field), height, width).unflatten(1, (-1, 2)).movedim(2, -1)
        if quirks.clamped_field:
            return field
        own = torch.stack(torch.meshgrid(centres(width, field), centres(height, field), indexing="xy"), dim=-1)
        return field + own

    def _warp(self, maps: Tensor, keypoints: Tensor, radii: Tensor, similarities: Tensor) -> Tensor:
        return sample_channels(maps, self.field(*maps.shape[-2:], keypoints, radii, similarities))


def _planes(x: Tensor, y: Tensor, scrambled: bool) -> Tensor:
    """X and y (B, C, h, w) as planes (B, 2C, h, w), those of a channel next to each other.

    Kept where `scrambled`: the pairs are written column by column and read as planes of rows, so that the plane of x
    holds x and y of the left half by turns.
    """
    if scrambled:
        rows, columns = x.shape[-2:]
        return torch.stack([x.mT, y.mT], dim=-1).reshape(x.shape[0], -1, rows, columns)
    return torch.stack([x, y], dim=2).flatten(1, 2)


def _resized(planes: Tensor, height: int, width: int) -> Tensor:
    if planes.shape[-2:] == (height, width):
        return planes
    return F.interpolate(planes, size=(height, width), mode="bilinear", align_corners=False, antialias=True)
