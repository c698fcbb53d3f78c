"""How sure a mean over clips is: its 95 % percentile bootstrap interval.

Clips are drawn with replacement and averaged again and again; the middle 95 % of those averages is the interval
(B. Efron and R. Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3). Clips count as independent;
several clips of one speaker are less than that, so the interval is rather too narrow, as it is for a handful of clips.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LEVEL = 0.95
SEED = 0
"""Two evaluations of the same values give the same interval."""

_CHUNK = 2**22  # drawn values held at a time: 32 MB


def mean_interval(
    values: Sequence[float], resamples: int, level: float = LEVEL, seed: int = SEED
) -> tuple[float, float] | None:
    """Percentile bootstrap interval of the mean.

    Args:
        values: (n,) one value per clip; those that are not finite do not count.
        resamples: how many samples of n values are drawn; 0: no interval.
        level: share of the averages inside the interval.
        seed: of the draws.

    Returns:
        Lower and upper end; None for fewer than two values.
    """
    array = np.asarray(values, np.float64)
    array = array[np.isfinite(array)]
    if resamples < 1 or len(array) < 2:
        return None
    tail = (1 - level) / 2
    low, high = np.quantile(_resampled_means(array, resamples, np.random.default_rng(seed)), (tail, 1 - tail))
    return float(low), float(high)


def _resampled_means(values: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """(resamples,) means of samples drawn with replacement, a chunk at a time."""
    rows = max(1, _CHUNK // len(values))
    means = []
    for first in range(0, resamples, rows):
        chosen = rng.integers(0, len(values), (min(rows, resamples - first), len(values)))
        means.append(values[chosen].mean(axis=1))
    return np.concatenate(means)
