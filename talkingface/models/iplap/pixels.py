"""Pictures as IPLAP's networks read and write them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    import numpy as np


def network_images(faces: Tensor) -> Tensor:
    """Faces uint8 RGB (..., S, S, 3) -> float BGR (..., 3, S, S) in [0, 1].

    The one place where colours turn: the published weights and their perceptual loss read BGR. `from_network` turns
    them back.
    """
    return faces.flip(-1).movedim(-1, -3).float() / 255


def from_network(images: Tensor) -> np.ndarray:
    """Float BGR (B, 3, S, S) in [0, 1] -> uint8 RGB (B, S, S, 3), rounded."""
    return faces_of(images).cpu().numpy()


def faces_of(images: Tensor) -> Tensor:
    """`from_network` that stays on the device of the network."""
    return (images.float().clamp(0, 1) * 255).round().to(torch.uint8).flip(1).movedim(1, -1)


def network_sketches(sketches: Tensor) -> Tensor:
    """Sketches uint8 (..., S, S) -> float (..., 1, S, S) in [0, 1]."""
    return sketches.float().unsqueeze(-3) / 255
