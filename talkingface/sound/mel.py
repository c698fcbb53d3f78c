"""Log-mel spectrograms shared by the Wav2Lip family of models, in numpy alone.

The published models were trained on librosa 0.9 features; this module gives the same numbers without librosa, so that
neither its version nor its resampler can move them. 80 columns per second, 16 columns (200 ms) per video frame.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from talkingface.sound import SAMPLE_RATE

COLUMNS_PER_SECOND = 80
MEL_WIDTH = 16
"""Columns in the window of one video frame: 200 ms, five frames at 25 fps."""

# STFT columns per FFT call. Windowed samples take 512 x 800 x 8 bytes = 3 MB, their spectrum 512 x 401 x 16 bytes as
# much again, so a call stays near 8 MB however long the sound; an hour at once would take 4 GB.
_BLOCK = 512


@dataclass(frozen=True)
class MelConfig:
    """Parameters of the spectrogram; the defaults are those of Wav2Lip, IP-LAP and HyperLips.

    Attributes:
        sample_rate: Hz.
        n_fft: Length of the Fourier transform in samples.
        hop: Samples between columns.
        win: Length of the Hann window in samples, centred in `n_fft`.
        n_mels: Number of bands.
        fmin: Lower edge of the first band in Hz.
        fmax: Upper edge of the last band in Hz.
        preemphasis: Coefficient of y[t] = x[t] - p x[t-1].
        min_level_db: Level that maps to `-max_abs`.
        ref_level_db: Subtracted from the level before mapping.
        max_abs: The result lies in [-max_abs, max_abs].
        pad_mode: What the centred transform sees beyond the ends: zeros (librosa >= 0.9) or a reflection (before).
    """

    sample_rate: int = SAMPLE_RATE
    n_fft: int = 800
    hop: int = 200
    win: int = 800
    n_mels: int = 80
    fmin: float = 55.0
    fmax: float = 7600.0
    preemphasis: float = 0.97
    min_level_db: float = -100.0
    ref_level_db: float = 20.0
    max_abs: float = 4.0
    pad_mode: Literal["constant", "reflect"] = "constant"

    def __post_init__(self) -> None:
        """Reject combinations that have no meaning."""
        if not 0 < self.win <= self.n_fft:
            raise ValueError(f"win must lie in 1..n_fft ({self.n_fft}), got {self.win}")
        if not 0 <= self.fmin < self.fmax <= self.sample_rate / 2:
            raise ValueError(f"mel bands {self.fmin}..{self.fmax} Hz do not fit under {self.sample_rate / 2} Hz")


def _hertz_to_mel(hertz: np.ndarray) -> np.ndarray:
    """Slaney's scale: linear below 1 kHz (15 mel), logarithmic above (27 steps per factor 6.4)."""
    logarithmic = 15.0 + np.log(np.maximum(hertz, 1e-9) / 1000.0) / (math.log(6.4) / 27.0)
    return np.where(hertz >= 1000.0, logarithmic, hertz * 3.0 / 200.0)


def _mel_to_hertz(mel: np.ndarray) -> np.ndarray:
    """The inverse of `_hertz_to_mel`."""
    return np.where(mel >= 15.0, 1000.0 * np.exp((math.log(6.4) / 27.0) * (mel - 15.0)), mel * 200.0 / 3.0)


@lru_cache(maxsize=8)
def mel_basis(config: MelConfig = MelConfig()) -> np.ndarray:
    """Triangular filters on Slaney's mel scale, each of unit area.

    Returns:
        (n_mels, n_fft // 2 + 1) float32, the precision in which librosa hands its filters out. Read-only.
    """
    frequencies = np.linspace(0.0, config.sample_rate / 2, config.n_fft // 2 + 1)
    low, high = _hertz_to_mel(np.array([config.fmin, config.fmax], dtype=np.float64))
    edges = _mel_to_hertz(np.linspace(low, high, config.n_mels + 2))
    # Band b rises from edge b to b + 1 and falls to b + 2; where the lower of both slopes is negative it is zero.
    rising = (frequencies - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - frequencies) / np.diff(edges)[1:, None]
    basis = np.maximum(0.0, np.minimum(rising, falling)) * (2.0 / (edges[2:] - edges[:-2]))[:, None]
    # Rounded to float32 and used in float64 below: librosa's filters were rounded when the models were trained.
    basis = basis.astype(np.float32)
    # Cached for all callers: writing into it would change the spectrogram of everybody else.
    basis.setflags(write=False)
    return basis


def preemphasis(audio: np.ndarray, coefficient: float = 0.97) -> np.ndarray:
    """Return y[t] = x[t] - p x[t-1], (n,) float64; the first sample stays as it is."""
    emphasised = audio.astype(np.float64)
    # The right side is computed before anything is written, so each sample takes off the original one before it.
    emphasised[1:] -= coefficient * emphasised[:-1]
    return emphasised


def magnitudes(signal: np.ndarray, config: MelConfig) -> Iterator[np.ndarray]:
    """Yield blocks (n_fft // 2 + 1, <= _BLOCK) of the centred magnitude spectrogram."""
    half = config.n_fft // 2
    if config.pad_mode == "reflect" and len(signal) <= half:
        raise ValueError(f"reflection padding needs more than {half} samples, got {len(signal)}")
    padded = np.pad(signal, half, mode=config.pad_mode)
    window = np.zeros(config.n_fft)
    start = (config.n_fft - config.win) // 2
    # A periodic Hann window (divided by `win`, not by `win - 1`), as SciPy and librosa use for spectra.
    window[start : start + config.win] = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(config.win) / config.win)
    # A view: columns overlap, and copying them would take the sound four times.
    frames = np.lib.stride_tricks.sliding_window_view(padded, config.n_fft)[:: config.hop]
    for first in range(0, len(frames), _BLOCK):
        yield np.abs(np.fft.rfft(frames[first : first + _BLOCK] * window, axis=1)).T


def melspectrogram(audio: np.ndarray, config: MelConfig = MelConfig()) -> np.ndarray:
    """Turn a waveform into the normalised log-mel spectrogram that the networks read.

    Args:
        audio: (n,) mono waveform in [-1, 1] at `config.sample_rate`; used as it is, without rescaling.
        config: Parameters; the defaults fit the published weights.

    Returns:
        (n_mels, L) float32 in [-max_abs, max_abs] with L = n // hop + 1.

    Raises:
        ValueError: If `audio` is empty or not one-dimensional.
    """
    audio = np.asarray(audio)
    if audio.ndim != 1 or not len(audio):
        raise ValueError(f"melspectrogram needs a non-empty mono waveform (n,), got shape {audio.shape}")
    signal = preemphasis(audio, config.preemphasis)
    basis = mel_basis(config).astype(np.float64)
    floor = 10.0 ** (config.min_level_db / 20.0)
    blocks = []
    for magnitude in magnitudes(signal, config):
        level = 20.0 * np.log10(np.maximum(floor, basis @ magnitude)) - config.ref_level_db
        # Decibels from `min_level_db` to 0 are spread over the range of the networks, both ends cut off.
        scaled = 2.0 * config.max_abs * (level - config.min_level_db) / -config.min_level_db - config.max_abs
        blocks.append(np.clip(scaled, -config.max_abs, config.max_abs).astype(np.float32))
    return np.concatenate(blocks, axis=1)


def mel_window_start(frame: int, fps: float = 25.0) -> int:
    """First column of the window centred on a video frame: int(80 (frame - 2) / 25), floored also below zero.

    Frames 0 and 1 give a negative start; `mel_windows` pads for them.
    """
    # The published code truncates, which for frames 0 and 1 would move the window toward the future.
    return math.floor(COLUMNS_PER_SECOND * (frame - 2) / fps)


def frame_columns(frames: np.ndarray, fps: float = 25.0, offset: int = 0) -> np.ndarray:
    """First columns (n,) of windows that begin with video frames: int(80 f / 25), Wav2Lip's rule.

    Args:
        frames: (n,) frame numbers.
        fps: frame rate they count in.
        offset: 0 begins with the frame, as published for inference and for sync experts; -1 one frame of 40 ms earlier,
            as published for the frames of a training window.
    """
    frames = np.asarray(frames)
    if not offset:
        return np.floor(COLUMNS_PER_SECOND * frames / fps).astype(np.int64)
    # The offset counts at the rate of the training, whatever that of the film.
    return np.floor(COLUMNS_PER_SECOND * (frames * (25.0 / fps) + offset) / 25.0).astype(np.int64)


def mel_windows(mel: np.ndarray, frames: Sequence[int] | np.ndarray, fps: float = 25.0, width: int = 16) -> np.ndarray:
    """Cut the window centred on each video frame; what lies beyond the ends repeats the outermost column.

    The published inference reuses window 0 for the first frames and has none for the last 0.2 s; padding both ends
    gives every frame its own.

    Args:
        mel: (bands, L).
        frames: Video frame indices, any order; below zero and past the end are allowed.
        fps: Frame rate that the indices count in.
        width: Columns per window.

    Returns:
        (n, bands, width) of the dtype of `mel`.
    """
    starts = np.array([mel_window_start(int(frame), fps) for frame in frames], dtype=np.int64)
    return cut_windows(mel, starts, width)


def cut_mel(mel: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Windows (m, 1, 80, 16) of a mel (80, L) from their first columns (m,); beyond an end the last column repeats."""
    return cut_windows(mel, first).astype(np.float32, copy=False)[:, None]


def cut_windows(mel: np.ndarray, first: np.ndarray, width: int = MEL_WIDTH) -> np.ndarray:
    """Windows (m, bands, width) of a mel (bands, L) from their first columns (m,): the one place where a mel is cut.

    Beyond an end the outermost column repeats. Which columns belong to a frame is each paper's own rule:

    * IP_LAP: centred on the frame, floor(80 (f - 2) / 25), see `mel_window_start`;
    * Wav2Lip and its sync experts: beginning with the frame, int(80 f / 25), see `frame_columns`.
    """
    columns = np.clip(np.asarray(first)[:, None] + np.arange(width), 0, mel.shape[1] - 1)
    return np.ascontiguousarray(mel[:, columns].transpose(1, 0, 2))
