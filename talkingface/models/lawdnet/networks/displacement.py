"""How far the points of a grid move by several similarities, with a backward pass of its own.

The published form builds a 2x2 matrix per item, key point, channel and point of the grid. Here one key point follows
the other, in closed formulas; the backward pass computes them again instead of keeping what autograd would keep, some
60 maps of the grid per channel.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from talkingface.networks.blocks import being_exported

_CACHED = 2**16
"""Numbers per map that a CPU works on at once: some dozen such maps stay in its cache."""


class _Motion(NamedTuple):
    """What one key point does, (B, C, h, w); dx has one row, dy one column."""

    dx: Tensor
    dy: Tensor
    distance: Tensor
    near: Tensor  # exponential fall-off, 1 at the key point
    weight: Tensor  # before it is divided by the sum over key points
    cos: Tensor
    sin: Tensor
    scale: Tensor
    along: Tensor  # what a point moves in the direction of its distance, per distance
    across: Tensor
    moved_x: Tensor
    moved_y: Tensor


def displacement(x: Tensor, y: Tensor, keypoints: Tensor, radii: Tensor, similarities: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted means of what all key points do.

    Args:
        x: (w,) places of the grid's columns.
        y: (h, 1) places of its rows.
        keypoints: (B, N, C, 2), x and y.
        radii: (B, N, C), above 0.
        similarities: (B, N, C, 4): change of scale, turn in units of pi, shift in x and y, all at the key point.

    Returns:
        Displacements in x and y, (B, C, h, w) each.
    """
    given = (keypoints, radii, similarities)
    if being_exported():
        # A graph knows neither a backward pass nor parts whose number follows from the batch.
        return _weighted_mean(x, y, *given)[:2]
    if x.device.type != "cpu":
        return _Displacement.apply(x, y, *given)
    channels = max(1, _CACHED // (len(keypoints) * len(x) * len(y)))
    parts = zip(*(each.split(channels, dim=2) for each in given))
    moved = [_Displacement.apply(x, y, *part) for part in parts]
    return tuple(torch.cat(axis, dim=1) for axis in zip(*moved))


def _motion(x: Tensor, y: Tensor, keypoint: Tensor, radius: Tensor, similarity: Tensor) -> _Motion:
    kx, ky = keypoint[..., None, None].unbind(2)
    grow, turn, shift_x, shift_y = similarity[..., None, None].unbind(2)
    dx, dy = x - kx, y - ky
    # The root has no gradient at 0, where a key point lies on a point of the grid.
    distance = (dx.square() + dy.square()).clamp_min_(1e-20).sqrt_()
    near = torch.exp(-distance / radius[..., None, None])
    scale, angle = 1 + grow * near, math.pi * turn * near
    cos, sin = angle.cos(), angle.sin()
    along, across = scale * cos - 1, scale * sin
    moved_x = along * dx + across * dy + shift_x * near
    moved_y = along * dy - across * dx + shift_y * near
    return _Motion(dx, dy, distance, near, near.exp(), cos, sin, scale, along, across, moved_x, moved_y)


def _weighted_mean(
    x: Tensor, y: Tensor, keypoints: Tensor, radii: Tensor, similarities: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Displacements in x and y, and the sum of the weights, (B, C, h, w) each; see `displacement`."""
    sums: list[Any] = [0.0, 0.0, 0.0]
    for given in zip(keypoints.unbind(1), radii.unbind(1), similarities.unbind(1)):
        motion = _motion(x, y, *given)
        parts = (motion.weight * motion.moved_x, motion.weight * motion.moved_y, motion.weight)
        sums = [total + part for total, part in zip(sums, parts)]
    moved_x, moved_y, total = sums
    return moved_x / total, moved_y / total, total


class _Displacement(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, y: Tensor, keypoints: Tensor, radii: Tensor, similarities: Tensor
    ) -> tuple[Tensor, Tensor]:
        moved_x, moved_y, total = _weighted_mean(x, y, keypoints, radii, similarities)
        ctx.save_for_backward(x, y, keypoints, radii, similarities, moved_x, moved_y, total)
        return moved_x, moved_y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_x: Tensor, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, y, keypoints, radii, similarities, moved_x, moved_y, total = ctx.saved_tensors
        grad_x, grad_y = grad_x / total, grad_y / total
        found = []
        for given in zip(keypoints.unbind(1), radii.unbind(1), similarities.unbind(1)):
            motion = _motion(x, y, *given)
            offset = grad_x * (motion.moved_x - moved_x) + grad_y * (motion.moved_y - moved_y)
            found.append(_gradients(motion, *given[1:], motion.weight * grad_x, motion.weight * grad_y, offset))
        of_keypoints, of_radii, of_similarities = (torch.stack(parts, dim=1) for parts in zip(*found))
        return None, None, of_keypoints, of_radii, of_similarities


def _gradients(
    m: _Motion, radius: Tensor, similarity: Tensor, of_x: Tensor, of_y: Tensor, of_weight: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of one key point (B, C, 2), radius (B, C) and similarity (B, C, 4).

    Args:
        m: what the key point does.
        radius: (B, C).
        similarity: (B, C, 4).
        of_x: gradient of what it moves in x, (B, C, h, w).
        of_y: likewise in y.
        of_weight: gradient of its weight.
    """
    grow, turn, shift_x, shift_y = similarity[..., None, None].unbind(2)
    radius = radius[..., None, None]
    of_along, of_across = of_x * m.dx + of_y * m.dy, of_x * m.dy - of_y * m.dx
    of_scale = of_along * m.cos + of_across * m.sin
    of_angle = (of_across * m.cos - of_along * m.sin) * m.scale
    # All of it hangs on how near a point is: its weight, the scale, the turn and the shift.
    of_near = m.weight * of_weight + grow * of_scale + math.pi * turn * of_angle + shift_x * of_x + shift_y * of_y
    pull = of_near * m.near / radius
    # At the key point itself distance has no direction; dx and dy are 0 there.
    toward = pull / m.distance
    of_dx = of_x * m.along - of_y * m.across - toward * m.dx
    of_dy = of_x * m.across + of_y * m.along - toward * m.dy
    of_similarity = (of_scale * m.near, math.pi * of_angle * m.near, of_x * m.near, of_y * m.near)
    return (
        -torch.stack([of_dx.sum((2, 3)), of_dy.sum((2, 3))], dim=-1),
        (pull * m.distance / radius).sum((2, 3)),
        torch.stack([part.sum((2, 3)) for part in of_similarity], dim=-1),
    )
