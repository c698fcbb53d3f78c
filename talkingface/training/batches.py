"""Which items make up which batch: a pure function of seed, stage and epoch, whatever the workers and processes."""

from __future__ import annotations

from collections.abc import Iterator
from zlib import crc32

import numpy as np
from torch.utils.data import Sampler


class TrainBatches(Sampler[list[int]]):
    """Endless shuffled batches of item keys `epoch * size + index` (the data set seeds each item from its key).

    `batch_size` counts over all processes; process `rank` of `world` takes its share of every batch, so the result does
    not depend on the number of processes. An epoch drops the last incomplete batch; a data set smaller than one batch
    fills it with further draws. Iteration goes on from epoch to epoch, so that loading ahead never pauses; `len` is the
    number of batches in one epoch.
    """

    def __init__(self, size: int, batch_size: int, seed: int, stage: str, rank: int = 0, world: int = 1) -> None:
        if batch_size % world:
            raise ValueError(f"batch_size {batch_size} must be a multiple of the number of processes, {world}")
        self.size, self.batch_size, self.seed, self.stage = size, batch_size, seed, stage
        self.rank, self.world = rank, world
        self.epoch, self.start = 0, 0

    def __len__(self) -> int:
        return max(1, self.size // self.batch_size)

    def set_position(self, epoch: int, start: int = 0) -> None:
        """Next iteration begins at batch `start` of `epoch`."""
        self.epoch, self.start = epoch, start

    def __iter__(self) -> Iterator[list[int]]:
        drawn = max(self.size, self.batch_size)
        # Keys of an epoch begin at a multiple of `size`: a data set smaller than a batch uses several "epochs" of keys,
        # so that each draw is another window.
        stride = -(-drawn // self.size) * self.size
        epoch, first = self.epoch, self.start
        while True:
            rng = np.random.default_rng([self.seed, crc32(self.stage.encode()), epoch])
            order = rng.permutation(drawn) + epoch * stride
            for batch in range(first, len(self)):
                keys = order[batch * self.batch_size : (batch + 1) * self.batch_size]
                yield keys[self.rank :: self.world].tolist()
            epoch, first = epoch + 1, 0


class HeldOutBatches(Sampler[list[int]]):
    """All items of a held-out set in order, `limit` batches at most, each process its share."""

    def __init__(self, size: int, batch_size: int, limit: int | None = None, rank: int = 0, world: int = 1) -> None:
        self.items = list(range(size if limit is None else min(size, limit * batch_size)))[rank::world]
        self.batch_size = max(1, batch_size // world)

    def __len__(self) -> int:
        return -(-len(self.items) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(0, len(self.items), self.batch_size):
            yield self.items[start : start + self.batch_size]
