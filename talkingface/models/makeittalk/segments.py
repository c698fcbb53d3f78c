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

LEAST = 10
"""Rows; a shorter rest is dropped, as published."""


def spans(
    rows: int, segmenting: Segmenting = "overlap", length: int = LENGTH, overlap: int = OVERLAP, least: int = LEAST
) -> list[Span]:
    """First row and end of each segment.

    Args:
        rows: of the whole sequence.
        segmenting: see `Segmenting`.
        length: rows of a segment; with `overlap` the last one is as long as the others, if there are as many rows.
        overlap: rows that two share at least, with `overlap`.
        least: rows that the last segment must have, with `published`.
    """
    if segmenting == "published":
        found = [(start, min(start + length, rows)) for start in range(0, rows, length)]
        return [span for span in found if span[1] - span[0] >= least]
    starts = [*range(0, max(rows - length, 0), length - overlap), max(rows - length, 0)]
    return [(start, min(start + length, rows)) for start in starts]


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
