"""A landmark network together with the scale of the sound that it was trained with."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Scaled(nn.Module):
    """Normalises windows of sound before the network hears them.

    Args:
        network: takes windows (..., bands) first.
        bands: width of a row.
    """

    sound_mean: Tensor
    sound_deviation: Tensor

    def __init__(self, network: nn.Module, bands: int) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("sound_mean", torch.zeros(bands))
        self.register_buffer("sound_deviation", torch.ones(bands))

    @property
    def has_scale(self) -> bool:
        """Whether mean and deviation were set; published weights come without."""
        return bool(self.sound_mean.ne(0).any() or self.sound_deviation.ne(1).any())

    @torch.no_grad()
    def set_scale(self, mean: Tensor, deviation: Tensor) -> None:
        """Take mean and deviation (bands,) of the sound."""
        self.sound_mean.copy_(mean)
        self.sound_deviation.copy_(deviation)

    def scaled(self, rows: Tensor) -> Tensor:
        """Rows (..., bands) as the network wants them."""
        return (rows - self.sound_mean) / self.sound_deviation

    def follow(self, rows: Tensor, *args: Any) -> Any:
        """What the network's own `follow` gives for rows (T, bands) as the front end made them."""
        return self.network.follow(self.scaled(rows), *args)

    def forward(self, windows: Tensor, *args: Any, **kwargs: Any) -> Any:
        """What the network gives for windows (..., bands) as the front end made them."""
        return self.network(self.scaled(windows), *args, **kwargs)
