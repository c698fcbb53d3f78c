"""How HyperLipsBase draws the faces of one video."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from talkingface.lipsync.half_face.draw import Drawer

if TYPE_CHECKING:
    from talkingface.lipsync.half_face.draw import HalfFaceNetworks
    from talkingface.models.hyperlips_base.networks.decoder import State


RESIZED_FROM = 4
"""Rows of a face to either side that the enlargement to its box looks at, at most (Lanczos)."""


class LowerHalfDrawer(Drawer):
    """Draws what is pasted alone; above it the face stays as it was given. The same values, in less time.

    Args:
        model: the model, in eval mode.
        above: share of a face above its middle that is drawn, too.
    """

    def __init__(self, model: HalfFaceNetworks, above: float) -> None:
        super().__init__(model)
        self.above = above

    def draw(self, mel: Tensor, inputs: Tensor, follows: np.ndarray) -> Tensor:
        """See `Drawer.draw`."""
        side = inputs.shape[-1]
        above = min(side // 2, math.ceil(self.above * side) + RESIZED_FROM)
        lower = self.model.generator.lower_half(mel, inputs, above=above)
        return torch.cat([inputs[:, :3, : side - lower.shape[-2]].to(lower), lower], dim=2)


class FollowingDrawer(Drawer):
    """Draws frames that remember those before them, from batch to batch."""

    remembers = True

    def __init__(self, model: HalfFaceNetworks) -> None:
        super().__init__(model)
        self._state: State | None = None

    def draw(self, mel: Tensor, inputs: Tensor, follows: np.ndarray) -> Tensor:
        """See `Drawer.draw`; the memory starts anew where a frame does not follow the one before."""
        starts = np.flatnonzero(~follows)
        bounds = sorted({0, len(follows), *starts.tolist()})
        drawn = []
        for first, stop in zip(bounds[:-1], bounds[1:], strict=True):
            state = self._state if follows[first] else None
            faces, self._state = self.model.generator.follow(
                mel[None, first:stop], inputs[None, first:stop].transpose(1, 2), state
            )
            drawn.append(faces[0].transpose(0, 1))
        return torch.cat(drawn)
