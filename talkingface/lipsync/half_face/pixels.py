"""Pictures as these networks read and write them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    import numpy as np


def network_faces(faces: Tensor) -> Tensor:
    """Faces uint8 RGB (B, T, S, S, 3) -> float BGR (B, 3, T, S, S) in [0, 1].

    The one place where colours turn for the networks, whose published weights read BGR; `faces_of` turns back.
    """
    return faces.flip(-1).permute(0, 4, 1, 2, 3).float() / 255


def network_input(target: Tensor, reference: Tensor) -> Tensor:
    """Faces uint8 RGB (B, T, S, S, 3) -> (B, 6, T, S, S): the target without its lower half, then the reference."""
    masked = network_faces(target)
    masked[..., masked.shape[-2] // 2 :, :] = 0
    return torch.cat([masked, network_faces(reference)], dim=1)


def from_network(images: Tensor) -> np.ndarray:
    """Float BGR (B, 3, S, S) in [0, 1] -> uint8 RGB (B, S, S, 3), rounded (published: cut off, half a level darker)."""
    return faces_of(images).cpu().numpy()


def faces_of(images: Tensor) -> Tensor:
    """`from_network` that stays on the device of the network."""
    return (images.float().clamp(0, 1) * 255).round().to(torch.uint8).flip(1).movedim(1, -1)
