"""Mean and spread of more rows than can be held at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Moments(NamedTuple):
    """Mean and spread of rows (n, bands), in such a form that those of more rows can be added.

    Attributes:
        count: n.
        mean: (bands,) float64.
        squares: (bands,) float64, sum of the squared distances from the mean.
    """

    count: int
    mean: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray) -> Moments:
        """Of some rows; there is one at least."""
        mean = rows.mean(axis=0, dtype=np.float64)
        return cls(len(rows), mean, np.square(rows - mean).sum(axis=0))

    def with_those_of(self, more: Moments) -> Moments:
        """Of all rows of both (T. Chan et al., 1979): what sums of squares would lose in rounding stays."""
        count, step = self.count + more.count, more.mean - self.mean
        between = np.square(step) * (self.count * more.count / count)
        return Moments(count, self.mean + step * (more.count / count), self.squares + more.squares + between)

    @property
    def deviation(self) -> np.ndarray:
        """(bands,) standard deviation."""
        return np.sqrt(self.squares / self.count)
