"""Smoothing of points over time."""

from __future__ import annotations

import numpy as np
from scipy.signal import savgol_filter


def smooth_rows(rows: np.ndarray, window: int, order: int = 3) -> np.ndarray:
    """Savitzky-Golay over axis 0, the ends by the polynomial of the last full window.

    A sequence shorter than the window takes the largest odd window that fits, and a polynomial to go with it.

    Args:
        rows: (T, ...).
        window: rows, odd.
        order: degree of the polynomial.

    Returns:
        The same shape and dtype.
    """
    window = min(window, len(rows) - (len(rows) + 1) % 2)
    if window < 3:
        return rows.copy()
    return savgol_filter(rows, window, min(order, window - 1), axis=0, mode="interp").astype(rows.dtype, copy=False)
