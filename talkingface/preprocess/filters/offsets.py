"""Offsets between picture and sound, from tables of agreement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from talkingface.preprocess.step import Rejected

LEAST_WINDOWS = 10  # mouths behind a verdict
DRIFT = 1  # frames by which the halves of a clip may differ: the halves are short, and a frame is 40 ms


def offset_curve(table: np.ndarray) -> np.ndarray:
    """Mean agreement at every offset; NaN where less than half of the mouths have a sound to be compared with.

    Args:
        table: (n, 2 r + 1) agreement of mouth t with the sound at t - offset, offsets -r to r, higher is better; NaN
            where the clip has no such pair.

    Returns:
        (2 r + 1,).
    """
    known = np.isfinite(table)
    counts = known.sum(axis=0)
    means = np.where(known, table, 0.0).sum(axis=0) / np.maximum(counts, 1)
    return np.where(counts >= max(1, 0.5 * counts.max()), means, np.nan)


def peak_of(curve: np.ndarray) -> tuple[int, float]:
    """Offset of the largest value of a curve, and how far that stands above the median."""
    best = int(np.nanargmax(curve))
    return best - len(curve) // 2, float(curve[best] - np.nanmedian(curve))


def measure_offset(table: np.ndarray) -> dict[str, Any]:
    """Facts of a clip from `table`, see `offset_curve`.

    Returns:
        `offset` in frames, `confidence`, `windows` (mouths compared), and `halves`: the offsets of the first and the
        second half of the mouths, None where a half is too short or too faint to tell (say, silent).

    Raises:
        Rejected: the clip is too short.
    """
    rows = np.isfinite(table).any(axis=1)
    if rows.sum() < LEAST_WINDOWS:
        raise Rejected(
            f"only {rows.sum()} windows with a face and sound; filters.sync needs {LEAST_WINDOWS}",
            measured=int(rows.sum()),
            limit=LEAST_WINDOWS,
        )
    offset, confidence = peak_of(offset_curve(table))
    halves = [_half(part, confidence) for part in np.array_split(table, 2)]
    return {"offset": offset, "confidence": round(confidence, 4), "windows": int(rows.sum()), "halves": halves}


def _half(table: np.ndarray, confidence: float) -> int | None:
    """Offset of half a clip, None when it does not tell."""
    if np.isfinite(table).any(axis=1).sum() < LEAST_WINDOWS:
        return None
    offset, own = peak_of(offset_curve(table))
    return offset if own >= 0.5 * confidence else None


def wanders(offsets: Sequence[int | None]) -> bool:
    """Whether any two of the offsets that are known differ by more than `DRIFT` frames."""
    known = [offset for offset in offsets if offset is not None]
    return max(known) - min(known) > DRIFT
