"""Judges of moving landmarks: of windows in time, told who speaks, and of single faces.

Paper: Y. Zhou et al., "MakeItTalk: Speaker-Aware Talking-Head Animation", ACM TOG 39(6) 221, 2020, section 4.2. Scores
are for least squares: 1 real, 0 made, no sigmoid.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn

from talkingface.models.makeittalk.networks.attention import RowEncoder
from talkingface.models.makeittalk.networks.pieces import FACE, mlp
from talkingface.models.makeittalk.networks.speaker import CODE


class TemporalDiscriminator(nn.Module):
    """Windows of landmarks and the speaker's code -> how real the motion is for this speaker.

    Args:
        code: size of the speaker's code.
        width: of the transformer, per head.
        heads: of the transformer.
        layers: of the transformer.
        dropout: inside the transformer.
        window: rows that a window spans.
        stride: rows from one window's start to the next one's.
        inside_step: of a window every so many rows are looked at.
    """

    def __init__(
        self,
        code: int = CODE,
        width: int = 32,
        heads: int = 2,
        layers: int = 2,
        dropout: float = 0.1,
        window: int = 64,
        stride: int = 1,
        inside_step: int = 1,
    ) -> None:
        super().__init__()
        if inside_step >= window:
            raise ValueError(f"inside_step {inside_step} leaves one row of a window of {window}: no motion to judge")
        self.window, self.stride, self.inside_step = window, stride, inside_step
        self.encoder = RowEncoder(FACE + code, width, heads, layers, dropout)
        self.out = mlp([heads * width, 512, 256, 1])

    def forward(self, landmarks: Tensor, code: Tensor) -> Tensor:
        """Scores of all windows of B sequences.

        Args:
            landmarks: (B, T, 204), T at least 2.
            code: (B, code).

        Returns:
            (B, n, 1).
        """
        rows = self._rows(landmarks.shape[1], landmarks.device)
        told = code[:, None].expand(-1, landmarks.shape[1], -1)
        seen = torch.cat([landmarks, told], dim=-1)[:, rows]  # (B, n, rows, ...)
        # The strongest sign of each kind, wherever in the window it is.
        strongest = self.encoder(seen.flatten(0, 1)).amax(dim=1)
        return self.out(strongest).unflatten(0, seen.shape[:2])

    def judged(self, mask: Tensor) -> Tensor:
        """Which windows lie wholly on rows that are there: mask (B, T) bool -> (B, n) bool."""
        return mask[:, self._rows(mask.shape[1], mask.device)].all(dim=-1)

    def _rows(self, length: int, device: torch.device) -> Tensor:
        return _rows_on(length, self.window, self.stride, self.inside_step, device)


def window_rows(length: int, window: int, stride: int = 1, inside_step: int = 1) -> Tensor:
    """Rows (n, r) of the windows of a sequence.

    Kept: the last window that would fit is left out, and a sequence that is no longer than a window gives one of all
    its rows but the last.

    Raises:
        ValueError: fewer than two rows.
    """
    if length < 2:
        raise ValueError(f"motion has at least two rows, got {length}")
    window = min(window, length - 1)
    starts = torch.arange(0, length - window, stride)
    return starts[:, None] + torch.arange(0, window, inside_step)


@lru_cache(maxsize=8)
def _rows_on(length: int, window: int, stride: int, inside_step: int, device: torch.device) -> Tensor:
    """The same on a device, once: each step would wait until they are there."""
    return window_rows(length, window, stride, inside_step).to(device)


class FrameDiscriminator(nn.Module):
    """Single faces -> how real they are.

    Args:
        hidden: size of the first inner layer; the second has half of it.
    """

    def __init__(self, hidden: int = 512) -> None:
        super().__init__()
        self.fl_D = mlp([FACE, hidden, hidden // 2, 1])

    def forward(self, faces: Tensor) -> Tensor:
        """(..., 204) -> scores (..., 1)."""
        return self.fl_D(faces)
