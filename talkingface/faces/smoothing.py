"""Smoothing of points over time: of a whole sequence, or frame by frame as they come."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import savgol_filter

from talkingface.faces.boxes import runs


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


JUMP = 0.25
"""Share of its size by which no head moves, or grows, from one frame to the next."""


def jumps(points: np.ndarray) -> np.ndarray:
    """Frames (T,) bool whose face is elsewhere, or of another size, than that of the frame before: it is after a cut.

    Args:
        points: (T, K, 2) of a face; NaN where there is none.
    """
    low, high = points.min(axis=1), points.max(axis=1)
    middle, size = (low + high) / 2, (high - low).max(axis=1)
    smaller, larger = np.minimum(size[1:], size[:-1]), np.maximum(size[1:], size[:-1])
    moved = np.abs(np.diff(middle, axis=0)).max(axis=1)
    # Compared with NaN nothing is larger: a face that begins after a frame without one has not jumped.
    return np.concatenate([[False], (moved > JUMP * smaller) | (larger - smaller > JUMP * smaller)])


def smooth_runs(rows: np.ndarray, valid: np.ndarray, sigma: float, begins: np.ndarray | None = None) -> np.ndarray:
    """Gaussian over axis 0 within every unbroken run of valid rows, the ends held.

    Args:
        rows: (T, ...) floats.
        valid: (T,) bool; other rows stay as they are.
        sigma: deviation in rows; 0 changes nothing.
        begins: (T,) bool, rows with which a run begins even where the row before is valid.

    Returns:
        The same shape and dtype.
    """
    smooth = rows.copy()
    for start, stop in runs(valid) if sigma else ():
        inner = [] if begins is None else (start + 1 + np.flatnonzero(begins[start + 1 : stop])).tolist()
        for first, last in pairwise([start, *inner, stop]):
            smooth[first:last] = gaussian_filter1d(rows[first:last], sigma, axis=0, mode="nearest")
    return smooth


class OneEuro:
    """The 1-euro filter: slow points are smoothed strongly, fast ones hardly, so that nothing lags behind.

    Source: G. Casiez, N. Roussel, D. Vogel, "1 Euro Filter", CHI 2012.

    Args:
        fps: frames per second.
        slowest: cut-off frequency of points at rest, in Hz.
        gain: by how many Hz it grows with each unit of speed (units of the points per second).
    """

    def __init__(self, fps: float = 25.0, slowest: float = 2.0, gain: float = 20.0) -> None:
        self.fps, self.slowest, self.gain = fps, slowest, gain
        self._points: np.ndarray | None = None
        self._speed: np.ndarray | None = None

    def __call__(self, points: np.ndarray, follows: bool) -> np.ndarray:
        """The smoothed points of the next frame, of the same shape.

        Args:
            points: (K, 2).
            follows: whether the frame goes on from the one before; otherwise smoothing starts anew.
        """
        if not follows or self._points is None:
            self._points, self._speed = points.astype(np.float64), np.zeros(points.shape)
            return points
        speed = (points - self._points) * self.fps
        self._speed = self._speed + self._share(1.0) * (speed - self._speed)
        cut_off = self.slowest + self.gain * np.abs(self._speed)
        self._points = self._points + self._share(cut_off) * (points - self._points)
        return self._points.astype(points.dtype)

    def _share(self, cut_off: float | np.ndarray) -> float | np.ndarray:
        """How much of a change passes at once."""
        return 1 / (1 + self.fps / (2 * math.pi * cut_off))
