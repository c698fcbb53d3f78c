"""Averages of logged values that stay on the device until somebody reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class RunningMeans:
    """Means of named values since the last reading; adding costs no transfer, reading one for all of them."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add one value (scalar tensor) of each name."""
        for name, value in values.items():
            self._sums[name] = self._sums[name] + value.float() if name in self._sums else value.float()
            self._counts[name] = self._counts.get(name, 0) + 1

    def read(self, fabric: Fabric) -> dict[str, float]:
        """Means over all processes since the last reading; empty when nothing was added."""
        if not self._sums:
            return {}
        names = list(self._sums)
        means = torch.stack([self._sums[n] / self._counts[n] for n in names])
        self._sums, self._counts = {}, {}
        return dict(zip(names, fabric.all_reduce(means, reduce_op="mean").cpu().tolist(), strict=True))
