"""LawDNet's warp in the published form, for comparison: a 2x2 matrix per key point, channel and point of the grid."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from talkingface.models.lawdnet.networks.warp import LocalAffineWarp
from talkingface.networks.dubbing.sampling import centres


def published_form(warp: LocalAffineWarp, maps: Tensor, code: Tensor) -> Tensor:
    """What `warp`, with all quirks, makes of maps (B, C, H, W), by 7-D tensors and one sampling in three dimensions."""
    keypoints, radii, similarities = warp.heads(code)
    batch, count, channels = radii.shape
    rows, columns = warp.grid
    own = torch.stack(torch.meshgrid(centres(columns, maps), centres(rows, maps), indexing="xy"), dim=-1)
    away = own.expand(batch, count, channels, rows, columns, 2) - keypoints[:, :, :, None, None]
    near = torch.exp(-away.norm(dim=-1) / radii[..., None, None])
    scale, turn, x, y = (similarities[..., None, None, :] * near[..., None]).unbind(-1)
    cos, sin = torch.cos(math.pi * turn), torch.sin(math.pi * turn)
    matrices = (
        torch.stack([torch.stack([cos, sin], -1), torch.stack([-sin, cos], -1)], -2) * (1 + scale)[..., None, None]
    )
    moved = (matrices @ away[..., None])[..., 0] + torch.stack([x, y], -1) + keypoints[:, :, :, None, None]
    field = (near.softmax(1)[..., None] * moved).sum(1)
    planes = field.permute(0, 1, 3, 2, 4).reshape(batch, 2 * channels, rows, columns)
    size = maps.shape[-2:]
    planes = F.interpolate(planes, size=size, mode="bilinear", align_corners=False, antialias=True)
    places = planes.unflatten(1, (channels, 2)).movedim(2, -1)
    third = centres(channels, maps)[:, None, None, None].expand(batch, channels, *size, 1)
    return F.grid_sample(maps[:, None], torch.cat([places, third], -1), align_corners=False)[:, 0]
