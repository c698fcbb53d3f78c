"""From pictures of the data to what the image translation sees, and back: the one place where colours change order."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from talkingface.models.makeittalk.networks.translation import picture
from talkingface.networks.losses import weighted_pyramid_l1

_CORRECTION = 0.5
"""Largest change of a moved portrait outside the mouth, in shares of the range of the pixels."""


def as_bgr(pictures: Tensor) -> Tensor:
    """(B, S, S, 3) uint8 RGB -> (B, 3, S, S) float BGR in [0, 1]."""
    return pictures.permute(0, 3, 1, 2).flip(1).float() / 255


def as_pictures(drawn: Tensor) -> Tensor:
    """(B, 3, S, S) float BGR in [0, 1] -> (B, S, S, 3) uint8 RGB."""
    return (drawn.float().flip(1).clamp(0, 1) * 255).round().permute(0, 2, 3, 1).to(torch.uint8)


def translated(network: nn.Module, batch: Mapping[str, Tensor], kind: str) -> Tensor:
    """The wanted pictures (B, 3, S, S), BGR in [0, 1].

    Args:
        network: the U-Net.
        batch: see `TranslatePairs`; without the target.
        kind: `portrait`: the network draws all of it, as published. `warped`: it corrects the moved portrait; between
            the inner lips, where that shows lip colour at best, nothing of it is seen, and the network draws alone.
    """
    drawing = batch["drawing"].permute(0, 3, 1, 2).float() / 255  # drawn in BGR
    if kind == "portrait":
        return picture(network(torch.cat([drawing, as_bgr(batch["portrait"])], dim=1)))
    inside = batch["inside"][:, None].float() / 255
    moved = as_bgr(batch["moved"])
    raw = network(torch.cat([drawing, moved * (1 - inside)], dim=1))
    corrected = (moved + _CORRECTION * raw.tanh()).clamp(0, 1)
    return corrected * (1 - inside) + raw.sigmoid() * inside


def pixel_loss(drawn: Tensor, target: Tensor, inside: Tensor, mouth: float) -> dict[str, Tensor]:
    """L1 of pixels and of their gradients, without any file of weights.

    Args:
        drawn: (B, 3, S, S).
        target: (B, 3, S, S).
        inside: (B, S, S) uint8, 255 between the inner lips.
        mouth: weight of what is there.
    """
    weight = 1 + (mouth - 1) * inside[:, None].float() / 255
    pixels, gradients = weighted_pyramid_l1(drawn, target, weight)
    return {"l1": pixels, "gradient": gradients}
