"""Values along time at any moment: between two rows their line, before the first and after the last one these."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


def held_at(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Rows of `values` (T, ...) at fractional places (n,), the ends held.

    NaN where either neighbour that counts is NaN.

    Returns:
        (n, ...) of the dtype of `values`, if that is a float.
    """
    if not len(values):
        raise ValueError("no rows to look between")
    places = np.clip(np.asarray(places, np.float64), 0, len(values) - 1)
    below = np.floor(places).astype(np.int64)
    share = (places - below).reshape(-1, *[1] * (values.ndim - 1))
    between = share > 0  # a row that does not count may be NaN
    above = np.minimum(below + 1, len(values) - 1)
    found = values[below] + np.where(between, share * (values[above] - values[below]), 0)
    return found.astype(values.dtype, copy=False)


class Rows(NamedTuple):
    """What a front end heard in a clip.

    Attributes:
        values: (T, width).
        per_second: rows in a second.
        first: time of row 0 in seconds.
        vector: (n,) of the whole clip; None where the front end gives none.
    """

    values: np.ndarray
    per_second: float
    first: float = 0.0
    vector: np.ndarray | None = None

    def times(self) -> np.ndarray:
        """(T,) seconds."""
        return self.first + np.arange(len(self.values)) / self.per_second

    def at(self, times: np.ndarray) -> np.ndarray:
        """Values (n, width) at times (n,) in seconds, the ends held."""
        return held_at(self.values, (np.asarray(times, np.float64) - self.first) * self.per_second)
