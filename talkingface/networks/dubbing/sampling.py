"""Sampling maps at places of their own for every channel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_BESIDE_REST = 0.1


def begin_near_rest(*heads: nn.Sequential) -> None:
    """Make what heads (linear layer and squashing) give small, so that a warp begins close to the identity.

    With PyTorch's own first weights channels begin turned by up to a right angle, each in another way, and what the
    references show has to be put together again before anything can be learnt from it.
    """
    with torch.no_grad():
        for head in heads:
            head[0].weight.mul_(_BESIDE_REST)
            head[0].bias.zero_()


def centres(size: int, like: Tensor) -> Tensor:
    """Centres of `size` pixels in [-1, 1], (size,), on the device and of the type of `like`."""
    edge = 1 - 1 / size
    return torch.linspace(-edge, edge, size, device=like.device, dtype=like.dtype)


def sample_channels(maps: Tensor, field: Tensor) -> Tensor:
    """Every channel at its own places, bilinear, zeros outside.

    The channels stand on the batch: published code samples a volume whose third coordinate is the channel.

    Args:
        maps: (B, C, H, W).
        field: (B, C, h, w, 2), x and y in [-1, 1] between the outer edges of the outermost pixels.

    Returns:
        (B, C, h, w).
    """
    flat = maps.flatten(0, 1)[:, None]
    sampled = F.grid_sample(flat, field.flatten(0, 1), mode="bilinear", padding_mode="zeros", align_corners=False)
    return sampled[:, 0].unflatten(0, maps.shape[:2])
