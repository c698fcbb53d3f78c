"""Pieces of MakeItTalk's landmark networks that several of them have."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from talkingface.faces.ibug68 import POINTS

FACE = 3 * POINTS
"""Values of a face: x0, y0, z0, x1, ..."""

WINDOW = 18
"""Rows of sound that a row of landmarks follows from: its own and the 17 after it, 0.29 s."""


def mlp(sizes: Sequence[int], slope: float = 0.02) -> nn.Sequential:
    """Linear layers with LeakyReLU between them. Keys: `0`, `2`, `4`, ..."""
    layers: list[nn.Module] = []
    for inputs, outputs in zip(sizes, sizes[1:]):
        layers += [nn.Linear(inputs, outputs), nn.LeakyReLU(slope)]
    return nn.Sequential(*layers[:-1])


def named(**layers: nn.Module) -> nn.Sequential:
    """Layers one after the other under keys of their own: the published files have names where ours need none."""
    return nn.Sequential(OrderedDict(layers))


def heard(lstm: nn.LSTM, windows: Tensor) -> Tensor:
    """What an LSTM knows after the last row of each window: (N, rows, C) -> (N, hidden)."""
    return lstm(windows)[0][:, -1]


def windows_of(rows: Tensor, length: int = WINDOW) -> Tensor:
    """Windows that begin at every row, as views: (..., T, C) -> (..., T - length + 1, length, C).

    Raises:
        ValueError: there are fewer rows than one window has.
    """
    if rows.shape[-2] < length:
        raise ValueError(f"{rows.shape[-2]} rows of sound are too few for a window of {length}")
    return rows.unfold(-2, length, 1).transpose(-1, -2)
