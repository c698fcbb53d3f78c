"""Processes that share a piece of work, as one of them sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class Team:
    """The processes that share a piece of work.

    Attributes:
        rank: number of this process; 0 is the first, which alone writes what there is but once.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def of(cls, fabric: Fabric) -> Team:
        """The processes that Fabric has joined."""
        return cls(fabric.global_rank, fabric.world_size)

    @property
    def is_first(self) -> bool:
        """Whether this is the first process."""
        return self.rank == 0

    def has(self, number: int) -> bool:
        """Whether a piece of the work, counted from 0, is this process's."""
        return number % self.size == self.rank

    def gather(self, value: Any) -> list[Any]:
        """A plain value of every process, in order of rank; all of them must ask."""
        if self.size == 1:
            return [value]
        import torch.distributed  # here: whoever works alone may do without torch

        values: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(values, value)
        return values
