"""What the scores between the mouths and the sounds of a clip say: right decisions, and the curve over offsets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from talkingface.lipsync.expert.embedding import ClipEmbeddings, cosines

MAX_OFFSET = 15  # frames, as LSE
MOST_WINDOWS = 1000  # of a clip, compared with each other
NEGATIVE_SHIFT = 5  # frames from which on two windows share no picture, and so count as out of sync
THRESHOLD = 0.5  # the loss takes the score as a probability
BLOCK = 32  # windows whose scores are asked for at once
HIT_PROMINENCE = 0.3  # from which on a peak is clear


@dataclass(frozen=True)
class Sweep:
    """Mean score at every offset.

    Attributes:
        curve: (2 n + 1,) from -n to n frames; NaN where the clip has no such pair. At a positive offset the mouths are
            paired with earlier sound.
    """

    curve: np.ndarray

    @property
    def reach(self) -> int:
        """n, the largest offset."""
        return len(self.curve) // 2

    @property
    def peak(self) -> int:
        """Offset of the largest value, in frames; positive: the best match uses earlier audio."""
        return int(np.nanargmax(self.curve)) - self.reach

    @property
    def prominence(self) -> float:
        """Largest value less the median."""
        return float(np.nanmax(self.curve) - np.nanmedian(self.curve))

    @property
    def hit(self) -> bool:
        """Whether the peak stands at 0 and is clear."""
        return self.peak == 0 and self.prominence >= HIT_PROMINENCE

    @classmethod
    def mean(cls, sweeps: Sequence[Sweep]) -> Sweep:
        """Mean curve of several clips."""
        curves = np.stack([sweep.curve for sweep in sweeps])
        # Short clips lack the outer offsets; there the mean is over the others.
        return cls(_column_means(curves))


def sweep_of(clip: ClipEmbeddings, max_offset: int = MAX_OFFSET) -> Sweep:
    """The offset curve of a clip; only pairs that exist count.

    Args:
        clip: embeddings of its windows, by rising first frames.
        max_offset: n, largest offset in frames.
    """
    if clip.score is not cosines:
        return Sweep(_column_means(score_band(clip, max_offset)))
    curve = np.full(2 * max_offset + 1, np.nan)
    for offset in range(-max_offset, max_offset + 1):
        # Windows may be missing (frames without a face): pairs are found by their first frames, not by position.
        _, mouth, sound = np.intersect1d(clip.starts - offset, clip.starts, assume_unique=True, return_indices=True)
        if len(mouth):
            curve[offset + max_offset] = np.einsum("nd,nd->n", clip.mouths[mouth], clip.sounds[sound]).mean()
    return Sweep(curve)


def score_band(clip: ClipEmbeddings, reach: int) -> np.ndarray:
    """Scores (n, 2 reach + 1) of every mouth with the sounds around it, as `Sweep.curve`; NaN where there is none."""
    band = np.full((len(clip.starts), 2 * reach + 1), np.nan)
    for first in range(0, len(band), BLOCK):
        rows = clip.starts[first : first + BLOCK]
        low, high = np.searchsorted(clip.starts, [rows[0] - reach, rows[-1] + reach + 1])
        offsets = rows[:, None] - clip.starts[low:high]
        row, column = np.nonzero(np.abs(offsets) <= reach)
        scores = clip.score(clip.mouths[first : first + BLOCK], clip.sounds[low:high])
        band[first + row, offsets[row, column] + reach] = scores[row, column]
    return band


def _column_means(table: np.ndarray) -> np.ndarray:
    """Means of the columns of what is known; NaN for a column without."""
    known = np.isfinite(table)
    total = np.where(known, table, 0.0).sum(axis=0)
    return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan)


def clip_figures(clip: ClipEmbeddings) -> dict[str, float]:
    """`pair_figures` of a clip; of one with many windows, those of evenly spread ones: pairs grow with the square."""
    count = len(clip.starts)
    # `unique`: rounding may take one window twice.
    some = np.unique(np.linspace(0, count - 1, min(count, MOST_WINDOWS)).round().astype(int))
    chosen = clip.some(some)
    return pair_figures(chosen.scores, chosen.starts)


def pair_figures(scores: np.ndarray, starts: np.ndarray, negative_shift: int = NEGATIVE_SHIFT) -> dict[str, float]:
    """How well in-sync pairs are told from others of the same clip.

    `accuracy`: in sync if the score is above 0.5, mean of the share of right answers on true pairs and on pairs at
    least `negative_shift` frames apart. `accuracy_any_shift`: the same with any other window as negative, as in the
    published training. `two_alternative`: share of cases in which a mouth is closer to its own sound than to one at
    least `negative_shift` frames away (ties count half). `positive`, `negative`: mean scores.

    Args:
        scores: (n, n) of mouths (rows) and sounds (columns) of the same windows.
        starts: (n,) first frames of the windows.
        negative_shift: see above.
    """
    true = np.diagonal(scores)
    distance = np.abs(starts[:, None] - starts[None])
    # Negatives of two kinds: far enough to share no picture, or any other window, as in the published training.
    far, other = distance >= negative_shift, distance > 0
    wins = (true[:, None] > scores) + 0.5 * (true[:, None] == scores)
    right = float((true > THRESHOLD).mean())
    return {
        "accuracy": 0.5 * (right + _mean(scores[far] <= THRESHOLD)),
        "accuracy_any_shift": 0.5 * (right + _mean(scores[other] <= THRESHOLD)),
        "two_alternative": _mean(wins[far]),
        "positive": float(true.mean()),
        "negative": _mean(scores[far]),
    }


def mean_figures(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means over clips; a figure that is undefined for a clip does not count there."""
    means = {}
    for name in figures[0] if figures else ():
        values = np.array([each[name] for each in figures])
        means[name] = _mean(values[np.isfinite(values)])
    return means


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
