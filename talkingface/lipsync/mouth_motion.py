"""Series of mouth opening and loudness, and how they go together."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from talkingface.media import FPS, SAMPLE_RATE

if TYPE_CHECKING:
    from talkingface.faces.track import LandmarkTrack

MAX_LAG = 10
"""Frames searched to either side."""

SILENCE_DB = -50.0
"""Energy this far below the clip's loudest frame counts as silence: noise in pauses must not carry the correlation."""


def opening(track: LandmarkTrack, detected_only: bool = False) -> np.ndarray:
    """(F,) mouth opening; NaN in frames without points, or with `detected_only` also in interpolated ones."""
    values = np.array(track.opening(), np.float64)
    values[~(track.found if detected_only else track.valid)] = np.nan
    return values


def log_energy(
    audio: np.ndarray,
    frames: int,
    fps: float = FPS,
    sample_rate: int = SAMPLE_RATE,
    floor: float = SILENCE_DB,
    loudest: float = 0.0,
) -> np.ndarray:
    """(frames,) loudness in dB of two frames' worth of sound around the time of each frame.

    It counts from the loudest frame and is cut off at `floor`; sound that is zero throughout gives 0 everywhere.

    Args:
        audio: (n,) mono sound.
        frames: number of video frames.
        fps: their rate.
        sample_rate: Hz of the sound.
        floor: dB.
        loudest: power of a louder frame than all of these, where one is known.
    """
    power = frame_power(audio, frames, fps, sample_rate)
    loudest = power.max(initial=loudest)
    if loudest <= 0.0:
        return np.zeros(frames)
    return 10.0 * np.log10(np.maximum(power / loudest, 10.0 ** (floor / 10.0)))


def frame_power(audio: np.ndarray, frames: int, fps: float = FPS, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """(frames,) mean square of two frames' worth of sound (n,) around the time of each frame."""
    # Running sums: the power of any window is then one subtraction, however much windows overlap.
    squares = np.concatenate([[0.0], np.cumsum(np.square(audio.astype(np.float64)))])
    centre = np.arange(frames) * sample_rate / fps
    half = sample_rate / fps
    low = np.clip(np.round(centre - half).astype(int), 0, len(audio))
    high = np.clip(np.round(centre + half).astype(int), 0, len(audio))
    # At the ends of the clip windows are cut short: the mean, not the sum, keeps them comparable.
    return (squares[high] - squares[low]) / np.maximum(high - low, 1)


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson correlation of two series (n,) over the positions where both are finite; NaN when one is constant."""
    good = np.isfinite(first) & np.isfinite(second)
    if good.sum() < 3:
        return math.nan
    a, b = first[good] - first[good].mean(), second[good] - second[good].mean()
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    # Equal values leave rounding noise: a spread under 1e-9 of the level is none.
    level = float(np.abs(first[good]).max() * np.abs(second[good]).max()) * good.sum()
    return float((a * b).sum()) / scale if scale > 1e-18 + 1e-9 * level else math.nan


def best_lag(leader: np.ndarray, follower: np.ndarray, max_lag: int = MAX_LAG) -> tuple[float, float]:
    """Shift at which two series (n,) correlate best.

    Returns:
        Lag in frames (positive: `follower` comes later than `leader`) and the correlation there; NaN for both when no
        shift with at least ten frames, and half of the series, in common has a defined correlation.
    """
    length = min(len(leader), len(follower))
    leader, follower = leader[:length], follower[:length]
    best = (math.nan, math.nan)
    # From the middle outwards, and only a larger value replaces the best: of equal ones the smallest shift counts.
    for lag in sorted(range(-max_lag, max_lag + 1), key=abs):
        common = length - abs(lag)
        if common < max(10, length / 2):
            continue
        # A follower that is late by `lag` has its frame k + lag where the leader has frame k.
        start, late = max(lag, 0), max(-lag, 0)
        value = correlation(leader[late : late + common], follower[start : start + common])
        if math.isfinite(value) and not value <= best[1]:
            best = (float(lag), value)
    return best
