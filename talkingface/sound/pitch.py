"""Fundamental frequency of a voice, 62.5 times per second, and how AutoVC is told of it.

Two trackers: RAPT (D. Talkin, "A robust algorithm for pitch tracking", 1995) of the package pysptk, which the published
features were made with, and one of our own on the same idea, normalised cross-correlation and dynamic programming, for
where that package is not to be had.
"""

from __future__ import annotations

import importlib.util
from typing import Literal

import numpy as np
from scipy.signal import butter, sosfilt

from talkingface.errors import DataError
from talkingface.sound import SAMPLE_RATE
from talkingface.sound.voice_mel import HOP, row_count

Range = Literal["F", "M", "auto"]
Tracker = Literal["rapt", "correlation"]

RANGES: dict[str, tuple[float, float]] = {"F": (100.0, 600.0), "M": (50.0, 250.0)}
"""Hz. Published: `F` for everybody in use, `M` in the making of the training data; low voices then seem unvoiced."""

_EITHER = (50.0, 600.0)
_LOW_VOICE = 160.0
"""Hz; a voice whose median is lower is searched in `M` by `auto`."""

PITCH_BINS = 257
"""One-hot fundamental frequency: unvoiced, and 256 steps."""

_HIGHEST = 2000.0  # Hz of what is compared
_WINDOW = 240  # samples compared: 15 ms
_CANDIDATES = 8
_BLOCK = 512  # rows worked on at once: spectra of 512 x 513 x 16 bytes are 4 MB

# Costs, of RAPT's order: what it takes to be unvoiced, to change between voiced and unvoiced, to change the pitch by a
# factor of e and by an octave, and to have a long period.
_UNVOICED, _CHANGE, _GLIDE, _OCTAVE, _LONG = 0.45, 0.2, 0.6, 0.25, 0.12
_RAPT_SHORTEST = 4000  # samples
_QUIET = 1e-4  # mean square of a window in which nothing is voiced, beside full scale: -40 dB


def default_tracker() -> Tracker:
    """`rapt` where pysptk is installed."""
    return "rapt" if importlib.util.find_spec("pysptk") else "correlation"


def track_pitch(samples: np.ndarray, search: Range = "F", tracker: Tracker | None = None) -> np.ndarray:
    """Logarithm of the fundamental frequency in Hz, NaN where a row is unvoiced.

    Args:
        samples: (n,) float64 at 16 kHz, levelled and filtered as by `voice_signal`.
        search: see `RANGES`; `auto` looks in the whole of both, and keeps what lies in the one of the voice's median.
        tracker: None: see `default_tracker`.

    Returns:
        (T,) float64, one per row of the mel.

    Raises:
        DataError: `rapt` is asked for, and pysptk is not installed.
    """
    track = rapt if (tracker or default_tracker()) == "rapt" else correlation_pitch
    if search != "auto":
        return track(samples, *RANGES[search])
    found = track(samples, *_EITHER)
    voiced = np.isfinite(found)
    if voiced.any():
        low, high = RANGES["M" if np.median(found[voiced]) < np.log(_LOW_VOICE) else "F"]
        found[voiced & ~((found >= np.log(low)) & (found <= np.log(high)))] = np.nan
    return found


def rapt(samples: np.ndarray, low: float, high: float) -> np.ndarray:
    """The published tracker; see `track_pitch`."""
    try:
        import pysptk
    except ImportError:
        raise DataError(
            "the pitch tracker rapt needs the package pysptk, which is not installed; use the tracker correlation"
        ) from None
    rows = row_count(len(samples))
    # It gives a row less where the rows divide the sound, and refuses sound that is shorter than its windows.
    least = _RAPT_SHORTEST if len(samples) % HOP else max(_RAPT_SHORTEST, len(samples) + 1)
    loud = np.pad(samples * 32768, (0, max(0, least - len(samples)))).astype(np.float32)
    found = pysptk.sptk.rapt(loud, SAMPLE_RATE, HOP, min=low, max=high, otype="logf0").astype(np.float64)
    return np.where(found > 0, found, np.nan)[:rows]


def correlation_pitch(samples: np.ndarray, low: float, high: float) -> np.ndarray:
    """Our own tracker; see `track_pitch`."""
    # Above, periods of a few samples leave peaks that fall between two of them.
    samples = sosfilt(butter(4, _HIGHEST, fs=SAMPLE_RATE, output="sos"), np.asarray(samples, np.float64))
    shortest, longest = int(SAMPLE_RATE / high), int(np.ceil(SAMPLE_RATE / low))
    rows = row_count(len(samples))
    # Window and shifted window lie symmetrically around the row's middle at the longest period.
    span = _WINDOW + longest + 1
    padded = np.pad(samples, (span // 2, span))
    frames = np.lib.stride_tricks.sliding_window_view(padded, span)[::HOP][:rows]
    parts = [_candidates(frames[k : k + _BLOCK], shortest, longest) for k in range(0, rows, _BLOCK)]
    periods, strengths, loud = (np.concatenate(part) for part in zip(*parts, strict=True))
    return _best_path(periods, strengths, loud, longest)


def _candidates(frames: np.ndarray, shortest: int, longest: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Likely periods in samples (T, 8), how alike the sound is after each of them (T, 8), and who is loud enough (T,).

    A place without a candidate has likeness -inf.
    """
    frames = frames - frames.mean(axis=1, keepdims=True)
    length = 1 << (frames.shape[1] + _WINDOW).bit_length()
    spectrum = np.fft.rfft(frames, length)
    products = np.fft.irfft(spectrum * np.fft.rfft(frames[:, :_WINDOW], length).conj(), length)[:, : longest + 2]
    sums = np.pad(np.square(frames).cumsum(axis=1), ((0, 0), (1, 0)))
    energy = sums[:, _WINDOW:] - sums[:, :-_WINDOW]  # of the window that begins at each shift
    energy = energy[:, : products.shape[1]]
    alike = products[:, : energy.shape[1]] / np.sqrt(energy[:, :1] * energy + (_QUIET * _WINDOW / 10) ** 2)
    lags = np.arange(shortest, min(longest, alike.shape[1] - 2) + 1)
    before, here, after = (alike[:, lags + step] for step in (-1, 0, 1))
    peaks = np.where((here >= before) & (here > after) & (here > 0.3), here, -np.inf)
    chosen = np.argpartition(-peaks, min(_CANDIDATES, len(lags) - 1), axis=1)[:, :_CANDIDATES]
    strengths, left, right = (np.take_along_axis(x, chosen, axis=1) for x in (peaks, before, after))
    # The top of a parabola through three values, since the true period is no whole number of samples.
    curve = 2 * np.where(np.isfinite(strengths), strengths, 0.0) - left - right
    slope = (right - left) / 2
    aside = np.where(curve > 1e-9, slope / np.maximum(curve, 1e-9), 0.0).clip(-1, 1)
    return lags[chosen] + aside, np.minimum(strengths + slope * aside / 2, 1.0), energy[:, 0] > _QUIET * _WINDOW


def _best_path(periods: np.ndarray, strengths: np.ndarray, loud: np.ndarray, longest: int) -> np.ndarray:
    """Logarithm of the frequency along the cheapest path through the candidates, NaN where it goes by none."""
    rows, kinds = periods.shape
    pitch = np.log(SAMPLE_RATE / periods)
    usable = np.isfinite(strengths) & loud[:, None]
    local = np.full((rows, kinds + 1), _UNVOICED)
    local[:, :kinds] = np.where(usable, 1 - strengths * (1 - _LONG * periods / longest), np.inf)
    cost, came = local[0], np.zeros((rows, kinds + 1), np.int8)
    for first in range(1, rows, _BLOCK):
        # Costs of changing for many rows beforehand: the loop over time is then three small sums per row.
        for row, change in enumerate(_changes(pitch[first - 1 : first + _BLOCK]), first):
            total = cost[:, None] + change
            came[row] = total.argmin(axis=0)
            cost = total[came[row], np.arange(kinds + 1)] + local[row]
    found = np.full(rows, np.nan)
    kind = int(cost.argmin())
    for row in range(rows - 1, -1, -1):
        found[row] = pitch[row, kind] if kind < kinds else np.nan
        kind = int(came[row, kind])
    return found


def _changes(pitch: np.ndarray) -> np.ndarray:
    """Costs (T - 1, 9, 9) of going from each candidate, or from unvoiced, to each of the next row, for (T, 8)."""
    kinds = pitch.shape[1]
    step = np.abs(pitch[1:, None, :] - pitch[:-1, :, None])
    change = np.full((len(step), kinds + 1, kinds + 1), _CHANGE)
    change[:, :kinds, :kinds] = _GLIDE * np.minimum(step, _OCTAVE + np.abs(step - np.log(2)))
    change[:, kinds, kinds] = 0.0
    return change


def relative_pitch(log_f0: np.ndarray) -> np.ndarray:
    """Pitch (T,) of an utterance beside its own mean: 0.5 is the mean, 0 and 1 four deviations away; NaN: unvoiced.

    Without a voiced row, or where all are the same, every row counts as unvoiced.
    """
    voiced = np.isfinite(log_f0)
    relative = np.full(len(log_f0), np.nan)
    deviation = log_f0[voiced].std() if voiced.any() else 0.0
    if deviation > 0:
        around = (log_f0[voiced] - log_f0[voiced].mean()) / deviation / 4
        relative[voiced] = (np.clip(around, -1, 1) + 1) / 2
    return relative


def pitch_bins(relative: np.ndarray) -> np.ndarray:
    """Bins (T,) of what `relative_pitch` gives: 0 unvoiced, else 1 to 256, halves to the even number."""
    return np.where(np.isfinite(relative), np.round(255 * np.nan_to_num(relative)) + 1, 0).astype(np.int64)


def pitch_rows(bins: np.ndarray) -> np.ndarray:
    """One-hot rows (T, 257) float32."""
    return np.eye(PITCH_BINS, dtype=np.float32)[bins]
