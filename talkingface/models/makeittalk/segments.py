"""Long sequences in segments, and their results in one piece again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

Segmenting = Literal["overlap", "published"]
"""`overlap`: segments reach into each other and are cross-faded, nothing is dropped. `published`: they follow each
other, which is seen and heard where they meet, and a short rest is dropped."""

Span = tuple[int, int]

LENGTH, OVERLAP = 512, 128
"""Rows of a segment of the landmark networks, and of those that two share."""

SLACK = 64
"""Rows by which a border may move to where the face is calm."""

LEAST = 10
"""Rows; a shorter rest is dropped, as published."""


def spans(
    rows: int,
    segmenting: Segmenting = "overlap",
    length: int = LENGTH,
    overlap: int = OVERLAP,
    least: int = LEAST,
    motion: np.ndarray | None = None,
) -> list[Span]:
    """First row and end of each segment.

    Args:
        rows: of the whole sequence.
        segmenting: see `Segmenting`.
        length: rows of a segment; with `overlap` the last one is as long as the others, if there are as many rows.
        overlap: rows that two share at least, with `overlap`.
        least: rows that the last segment must have, with `published`.
        motion: (rows,) how far a face moves from the row before to this one; with `overlap` segments then begin and end
            where it is calm, and are up to `SLACK` rows shorter.
    """
    if segmenting == "published":
        found = [(start, min(start + length, rows)) for start in range(0, rows, length)]
        return [span for span in found if span[1] - span[0] >= least]
    slack = 0 if motion is None else SLACK
    steps, found, start = np.zeros(rows) if motion is None else motion, [], 0
    while start + length < rows:
        stop = _calmest(steps, start + length - slack, start + length)
        found.append((start, stop))
        latest, ending = stop - overlap, rows - length
        # The last one ends with the rows.
        first, last = (ending, min(ending + slack, latest)) if ending <= latest else (latest - slack, latest)
        start = _calmest(steps, first, last)
    return [*found, (start, rows)]


def _calmest(steps: np.ndarray, first: int, last: int) -> int:
    """The row from `first` to `last` before which a face moves least."""
    return first + int(np.argmin(steps[first : last + 1]))


def joined(parts: Sequence[np.ndarray], places: Sequence[Span]) -> np.ndarray:
    """Results (rows of the segment, ...) of all segments as one, cross-faded where two overlap."""
    whole = np.empty((places[-1][1], *parts[0].shape[1:]), parts[0].dtype)
    end = 0
    for part, (start, stop) in zip(parts, places, strict=True):
        shared = max(end - start, 0)
        share = (np.arange(shared) + 1).reshape(-1, *[1] * (part.ndim - 1)) / (shared + 1)
        whole[start : start + shared] += (share * (part[:shared] - whole[start : start + shared])).astype(whole.dtype)
        whole[start + shared : stop] = part[shared:]
        end = stop
    return whole
